"""The learner as `RolloutPool.update` sees it: a source of weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from configs.schema import Config
from learner.distributed.group import LearnerGroup
from rollout.weights.transfer import Endpoint


class LearnerWeights:
    """The weights of `learner` as they are when they are sent. Its blocking calls run in a thread of their own, always
    the same: that thread holds the learner's turn from one call to the next."""

    def __init__(self, learner: LearnerGroup, config: Config):
        self._learner, self._timeout = learner, config.rollout.timeout
        self._thread = ThreadPoolExecutor(1)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        try:
            await self._call(self._learner.turn.acquire)
            yield
        finally:  # in that thread, after what it may still be at
            self._thread.submit(self._learner.turn.release)

    async def manifest(self):
        return await self._call(self._learner.weight_manifest)

    async def bind(self) -> Endpoint:
        return await self._call(self._learner.bind_weights, self._timeout)

    async def open(self, world_size: int) -> None:
        await self._call(self._learner.open_weights, world_size)

    async def send(self, whole: bool) -> int:
        return await self._call(self._learner.send_weights, whole)

    async def _call(self, work: Callable, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
