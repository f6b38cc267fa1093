"""The task that follows the load of a pool: as many actors as `autoscale.rescale` says, as far as they find room."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ray.exceptions import RayError

from configs import UserError
from reward_actors.pool.autoscaling_policy import Limits, Load, Scale, Scaling, rescale
from reward_actors.pool.replicas import Roster
from reward_actors.pool.stats import PoolStats

LOOK_SECONDS = 1.0
"""How often it looks at the load."""
SCALINGS_KEPT = 100


class Autoscaler:
    """`start(limits)`, `await stop()`. scalings: the last of its decisions."""

    def __init__(self, roster: Roster, stats: Callable[[], PoolStats]):
        self.scalings: deque[Scaling] = deque(maxlen=SCALINGS_KEPT)
        self._roster, self._stats = roster, stats
        self._task: asyncio.Task | None = None

    def start(self, limits: Limits) -> None:
        """From now on; in the place of the limits before."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._follow(limits))

    async def stop(self) -> None:
        """Returns when the actors that it was starting are gone, and not counted."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, limits: Limits) -> None:
        began, roster = time.monotonic(), self._roster
        scale, before, seen = Scale(roster.actors), self._stats(), began
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now, after = time.monotonic(), self._stats()
            load = _load_between(before, after, now - seen)
            scale = rescale(replace(scale, actors=roster.actors), load, now, limits)
            before, seen, wanted = after, now, scale.actors
            if wanted > roster.actors:
                wanted = min(wanted, roster.actors + roster.placeable())
            if wanted == roster.actors:
                continue
            scaling = Scaling(now - began, roster.actors, wanted, load)
            try:
                await roster.resize(wanted)
            except (UserError, RayError) as error:  # one that died on the way ends no autoscaling
                scaling = replace(scaling, trouble=str(error))
            self.scalings.append(scaling)


def _load_between(before: PoolStats, after: PoolStats, seconds: float) -> Load:
    """What happened between two snapshots of a pool, `seconds` apart."""
    work = [stats.asked - stats.memo_hits - stats.shared for stats in (before, after)]
    return Load(
        queue_age=after.queue_age,
        busy=min(1.0, (after.occupied - before.occupied) / (seconds * max(1, after.actors))),
        arrivals=(work[1] - work[0]) / seconds,
        service=sum(after.busy.values()) / max(1, after.scored),
    )
