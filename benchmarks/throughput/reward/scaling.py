"""Efficiency of the reward pool, E(n) = X(n) / (n X(1)), X(n) the seconds of service a second that n actors give.

The pool, its queue and its Ray actors are the real ones; the actors wait instead of restoring, one query at a time.
Beside it, on the same draws and without any cost of dispatch: a perfect pull queue, contiguous chunks, round robin.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.throughput.loop.stubs import StandIn
from configs.cluster.connect import connect
from configs.schema import Config
from envs.taxonomy import TAXONOMY
from envs.types import RewardQuery
from reward_actors.pool.pool import RewardPool

LAWS = ("constant", "log_normal", "one_in_five", "gated")
BOUND = {"law": "log_normal", "actors": 32, "efficiency": 0.90}
STARTED_TOGETHER = 8
(ANSWER,) = TAXONOMY.examples(1)


def draw(law: str, count: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Service times in seconds, (count,), 0 where the gate answers; those above 0 have exactly this mean.

    Args:
        law: `constant`; `log_normal` of sigma .5; `one_in_five` three times as long as the others; `gated`,
            log-normal, with 30 % answered by the gate.
    """
    times = np.exp(0.5 * rng.standard_normal(count)) if law in ("log_normal", "gated") else np.ones(count)
    if law == "one_in_five":
        times[rng.permutation(count)[: round(count / 5)]] = 3
    if law == "gated":
        times[rng.permutation(count)[: round(0.3 * count)]] = 0
    return times * mean / times[times > 0].mean()


def makespan(times: Sequence[float], actors: int, way: str) -> float:
    """Seconds until the last actor is done: `pull` (next query to whoever is free), `chunks` or `round_robin`."""
    if way == "chunks":
        return max(part.sum() for part in np.array_split(np.asarray(times), actors))
    if way == "round_robin":
        return max(np.asarray(times)[actor::actors].sum() for actor in range(actors))
    free_at = [0.0] * actors
    for seconds in times:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)


def run(config: Config, most: int, queries: int, seconds: float) -> dict:
    """Measures 1, 2, 4, ... `most` actors, `queries` queries for each, of `seconds` on average."""
    config = replace(config, reward=replace(config.reward, actors=1, max_actors=0, batch=1, cpus=0.01))
    connect()
    rows = asyncio.run(_measure(config, [2**k for k in range(most.bit_length()) if 2**k <= most], queries, seconds))
    _show(rows)
    return {"queries_per_actor": queries, "mean_seconds": seconds, "rows": rows}


async def _measure(config: Config, sizes: Sequence[int], queries: int, seconds: float) -> list[dict]:
    rows, alone, rng = [], {}, np.random.default_rng(config.seed)
    pool = RewardPool(config, StandIn, memo=0)
    try:
        await pool.start()
        for actors in sizes:
            for wanted in range(pool.stats().actors, actors, STARTED_TOGETHER):
                await pool.resize(min(actors, wanted + STARTED_TOGETHER))
            for law in LAWS:
                times = draw(law, actors * queries, seconds, rng)
                wall = await time_queries(pool, times[times > 0], f"{law}-{actors}")
                rate = times.sum() / wall  # not queries: of few draws the gate answers another share than of many
                alone.setdefault(law, rate)
                ideal = times.sum() / actors
                rows.append(
                    {"actors": actors, "law": law, "seconds": wall, "efficiency": rate / (actors * alone[law])}
                    | {way: ideal / makespan(times, actors, way) for way in ("pull", "chunks", "round_robin")}
                )
    finally:
        await pool.close()
    return rows


async def time_queries(pool: RewardPool, times: np.ndarray, name: str) -> float:
    """Seconds in which the pool answers queries that last `times`; `name` makes them new to it."""
    asked = [RewardQuery(f"{name}-{i}", float(seconds), ANSWER) for i, seconds in enumerate(times)]
    began = time.perf_counter()
    await pool.score(asked)
    return time.perf_counter() - began


def _show(rows: list[dict]) -> None:
    console, columns = Console(width=120), ("efficiency", "pull", "chunks", "round_robin")
    table = Table("actors", "times", *columns, title="measured; without dispatch: pull queue, chunks, round robin")
    for row in rows:
        table.add_row(str(row["actors"]), row["law"], *(f"{row[column]:.3f}" for column in columns))
    console.print(table)
    for row in rows:
        if (row["law"], row["actors"]) == (BOUND["law"], BOUND["actors"]):
            console.print(f"E(32) log-normal {row['efficiency']:.3f} (bar {BOUND['efficiency']:g})")
