"""A reward actor that waits instead of restoring, so that the pool itself can be measured. Imports no torch."""

from __future__ import annotations

import asyncio
import os
import time

import ray

from configs.schema import Reward
from envs.types import RewardQuery, Scored
from reward_actors.pool.batches import BatchedWorker
from reward_actors.pool.stats import Ready, Report


class StandIn(BatchedWorker):
    """Takes `reward.batch` queries at a time; each lasts as many seconds as its `sample` (or the object it refers to)
    says."""

    def __init__(self, name: str, settings: Reward, size: int):
        super().__init__()
        self._name, self._rows, self._busy = name, settings.batch, 0.0
        self._room = asyncio.Semaphore(settings.batch)

    async def open(self) -> Ready:
        return Ready("stand-in", os.getpid(), self._rows)

    async def score(self, query: RewardQuery) -> Scored:
        seconds = await query.sample if isinstance(query.sample, ray.ObjectRef) else query.sample
        async with self._room:
            await asyncio.sleep(seconds)
        self._busy += seconds
        return Scored(-seconds, actor=self._name, seconds=seconds)

    def report(self) -> Report:
        return Report(self._busy)

    async def steps(self) -> int:
        return time.monotonic_ns()
