"""The learner as `RolloutPool.update` sees it: a source of weights."""

from __future__ import annotations

import asyncio

from configs.schema import Config
from learner.ranks import Learner
from rollout.weight_transfer import Endpoint


class LearnerWeights:
    """The weights of `learner` as they are, to be stamped `version`. Its blocking calls run in threads."""

    def __init__(self, learner: Learner, config: Config, version: int):
        self._learner, self._rollout, self._version = learner, config.rollout, version

    async def manifest(self):
        return await asyncio.to_thread(self._learner.weight_manifest)

    async def bind(self) -> Endpoint:
        return await asyncio.to_thread(
            self._learner.bind_weights, self._rollout.bucket_mb, self._rollout.timeout
        )

    async def open(self, world_size: int) -> None:
        await asyncio.to_thread(self._learner.open_weights, world_size)

    async def send(self) -> int:
        await asyncio.to_thread(self._learner.send_weights)
        return self._version
