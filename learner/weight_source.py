"""The learner as `RolloutPool.update` sees it: a source of weights."""

from __future__ import annotations

import asyncio

from configs.schema import Config
from learner.ranks import Learner
from rollout.weight_transfer import Endpoint


class LearnerWeights:
    """The weights of `learner` as they are when they are sent. Its blocking calls run in threads."""

    def __init__(self, learner: Learner, config: Config):
        self._learner, self._timeout = learner, config.rollout.timeout

    async def manifest(self):
        return await asyncio.to_thread(self._learner.weight_manifest)

    async def bind(self) -> Endpoint:
        return await asyncio.to_thread(self._learner.bind_weights, self._timeout)

    async def open(self, world_size: int) -> None:
        await asyncio.to_thread(self._learner.open_weights, world_size)

    async def send(self, whole: bool) -> int:
        return await asyncio.to_thread(self._learner.send_weights, whole)
