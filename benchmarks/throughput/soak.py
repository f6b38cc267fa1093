"""Steady load with images, and what it does to memory: resident memory of every process, and the object store.

Every round puts new pictures into the object store and has several answers to each of them restored. The first
third of the time fills caches and is not counted; over the rest a straight line is fitted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import ray
from rich.console import Console

from benchmarks.throughput import job_soak
from benchmarks.throughput.lines import BOUND, fitted
from configs import UserError
from configs.cluster.connect import connect
from configs.schema import Config
from envs.corpus.reader import read_samples
from envs.types import RewardQuery, Sample, Scored
from envs.world import world_taxonomy
from reward_actors.pool.pool import RewardPool

PICTURES, ANSWERS = 8, 4
MEMO = 256
STORE_BOUND = 16 * 2**20
"""So many bytes may the object store rise."""


def run(config: Config, minutes: float, job: bool = False) -> dict:
    """Returns bytes at the start and the rise over the counted time: {process: {"bytes", "rise"}}, and `queries`."""
    if not config.corpus:
        raise UserError("soak: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    if job:
        return job_soak.run(config, minutes)
    config = replace(config, reward=replace(config.reward, scorer=["mse"]))
    samples = read_samples(config.corpus, config.split, world_taxonomy(config.world))
    connect()
    queries, seconds, looks = asyncio.run(_soak(config, samples, 60 * minutes))
    lines = {name: fitted(seconds, [look[name] for look in looks]) for name in looks[0]}
    for name, line in lines.items():
        bound = STORE_BOUND if name == "object store" else BOUND * line["bytes"]
        line["flat"] = bool(line["rise"] < bound)
        level, rise, bar = (value / 2**20 for value in (line["bytes"], line["rise"], bound))
        Console(width=120).print(f"{name}: {level:.0f} MiB, rises by {rise:+.1f} MiB (bar {bar:.0f})")
    return {"minutes": minutes, "queries": queries, "memory": lines}


async def _soak(config: Config, samples, length: float) -> tuple[int, list[float], list[dict[str, int]]]:
    pool, queries, seconds, looks = RewardPool(config, memo=MEMO), 0, [], []
    rounds = _rounds(samples)
    try:
        await pool.start()
        began = time.monotonic()
        while (now := time.monotonic() - began) < length:
            seconds.append(now)
            looks.append(_memory(pool))
            answers = await pool.score(next(rounds))
            if not all(isinstance(answer, Scored) for answer in answers):
                raise RuntimeError(f"a query failed in the soak: {answers}")
            queries += len(answers)
    finally:
        await pool.close()
    return queries, seconds, looks


def _rounds(samples) -> Iterator[list[RewardQuery]]:
    """Ever new pictures (another name is another picture to the pool), each with the answers of some others."""
    serial = 0
    while True:
        asked = []
        for _ in range(PICTURES):
            sample: Sample = samples[serial % len(samples)]
            sample = replace(sample, sample_id=f"{sample.sample_id}/{serial}")
            reference = ray.put(sample)
            others = [samples.degradations()[(serial + 4 * i) % len(samples)] for i in range(ANSWERS)]
            asked += [RewardQuery(sample.sample_id, reference, other) for other in others]
            serial += 1
        yield asked


def _memory(pool: RewardPool) -> dict[str, int]:
    has, free = ray.cluster_resources(), ray.available_resources()
    stored = int(has["object_store_memory"] - free.get("object_store_memory", 0))
    resident = {name: psutil.Process(pid).memory_info().rss for name, pid in pool.processes().items()}
    return {"driver": psutil.Process().memory_info().rss, **resident, "object store": stored}
