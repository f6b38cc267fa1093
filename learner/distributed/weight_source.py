"""Shows the learner to the rollout pool as a source of weights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from learner.distributed.group import LearnerGroup
from rollout.weights.manifest import Manifest


class LearnerWeights:
    """Makes the learner's blocking calls awaitable for `RolloutPool.update`.

    The weights are those that the learner has when they are sent: a call waits until the learner has ended the step
    it is at, and no step begins before the call has ended.
    """

    def __init__(self, learner: LearnerGroup):
        self._learner = learner

    async def manifest(self) -> Manifest:
        """See `rollout.weights.update.WeightSource`."""
        return await asyncio.to_thread(self._learner.weight_manifest)

    async def send(self, engines: Sequence[Any], whole: bool) -> int:
        """See `rollout.weights.update.WeightSource`."""
        return await asyncio.to_thread(self._learner.send_weights, engines, whole)
