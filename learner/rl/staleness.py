"""How far sampling may run ahead of learning: the rule of the RL loop."""

from __future__ import annotations

import asyncio


def steps_ahead(step: int, max_staleness: int, steps: int) -> range:
    """Lists the steps whose groups are asked for when the learner is about to take `step`, of `steps` in all."""
    return range(step, min(step + max_staleness + 1, steps))


def may_sample(step: int, version: int, max_staleness: int) -> bool:
    """Whether weights of `version` (learner steps they have taken) are new enough to sample the groups of `step`."""
    return version >= step - max_staleness


class Pace:
    """Keeps which weights the engines have, and whose turn it is.

    version: learner steps that the engines' weights have taken.
    sampling: held by whoever samples a batch or sends weights: one batch, one set of weights.
    """

    def __init__(self, max_staleness: int):
        self.version, self.sampling = 0, asyncio.Lock()
        self._max_staleness, self._moved = max_staleness, asyncio.Condition()

    async def fresh(self, step: int) -> None:
        """Waits until the groups of `step` may be sampled (`may_sample`)."""
        async with self._moved:
            await self._moved.wait_for(lambda: may_sample(step, self.version, self._max_staleness))

    async def reach(self, version: int) -> None:
        """Notes that the engines have weights of `version` now, or will before they sample."""
        async with self._moved:
            self.version = version
            self._moved.notify_all()
