"""The regression gate: quick versions of the throughput benchmarks beside the ratios they had (baseline.json).

`python -m benchmarks gate` fails where a ratio fell further than its tolerance. Ratios only, never seconds: they hold
on a slow machine as on a fast one. Whoever makes something better writes the new ratio into baseline.json.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.throughput.loop import overhead, pipeline
from benchmarks.throughput.loop.stubs import StandIn
from benchmarks.throughput.reward.scaling import draw, time_queries
from configs import UserError
from configs.cluster.connect import connect
from configs.schema import Config
from reward_actors.pool.pool import RewardPool

BASELINE = Path(__file__).parent / "baseline.json"
STEPS, SECONDS = 5, 1.0
GROUPS = (10, 80)


@dataclass(frozen=True)
class Expected:
    """A ratio that may fall (or rise, where lower is better) by `tolerance`, a share of it."""

    ratio: float
    tolerance: float
    lower_is_better: bool = False

    def holds(self, found: float) -> bool:
        if self.lower_is_better:
            return found <= self.ratio * (1 + self.tolerance)
        return found >= self.ratio * (1 - self.tolerance)


def run(config: Config) -> dict[str, float]:
    """Measures all ratios. Raises UserError naming those that do not hold."""
    connect()
    found = measure(config)
    expected = baseline()
    for name, ratio in found.items():
        print(f"{name}: {ratio:.3f} (baseline {expected[name].ratio:g}, tolerance {expected[name].tolerance:.0%})")
    if faults := broken(found, expected):
        raise UserError(f"gate: slower than the baseline: {'; '.join(faults)}")
    return found


def measure(config: Config) -> dict[str, float]:
    """The ratios, by name; about a minute, mostly the start of actors. The process must be connected to a cluster."""
    rows = {stage: pipeline.measure(config, stage, "staleness 1", STEPS, SECONDS) for stage in pipeline.STAGES}
    few, many = (overhead.measure(config, groups)["cpu_ms"] for groups in GROUPS)
    return {
        **{f"pipeline, {stage} longest: T*/T": row["efficiency"] for stage, row in rows.items()},
        f"overhead: CPU of a completion, {GROUPS[1]} to {GROUPS[0]} groups": many / few,
        "scaling: efficiency of 4 actors": asyncio.run(_scaling(config)),
    }


def baseline() -> dict[str, Expected]:
    return {name: Expected(**values) for name, values in json.loads(BASELINE.read_text()).items()}


def broken(found: Mapping[str, float], expected: Mapping[str, Expected]) -> list[str]:
    """What does not hold, a sentence each."""
    if set(found) != set(expected):
        raise ValueError(f"measured and baseline differ in {sorted(set(found) ^ set(expected))}")
    return [
        f"{name} is {ratio:.3f}, was {expected[name].ratio:g}"
        for name, ratio in found.items()
        if not expected[name].holds(ratio)
    ]


async def _scaling(config: Config, actors: int = 4, queries: int = 16, seconds: float = 0.25) -> float:
    """X(n) / (n X(1)), log-normal times."""
    reward = replace(config.reward, actors=1, max_actors=0, batch=1, cpus=0.001, gpus=0.0)
    pool = RewardPool(replace(config, reward=reward), StandIn, memo=0)
    rng, rates = np.random.default_rng(config.seed), {}
    try:
        await pool.start()
        for size in (1, actors):
            await pool.resize(size)
            times = draw("log_normal", size * queries, seconds, rng)
            rates[size] = len(times) / await time_queries(pool, times, f"gate-{size}")
    finally:
        await pool.close()
    return rates[actors] / (actors * rates[1])
