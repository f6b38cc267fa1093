"""The task that follows the load of a pool: as many actors as `rescale` says, as far as the cluster has room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ray.exceptions import RayError

from configs import UserError
from reward_actors.pool.autoscaling_policy import Limits, Load, Scale, Scaling, rescale
from reward_actors.pool.queue import now
from reward_actors.pool.replicas import ReplicaSet
from reward_actors.pool.stats import PoolStats

LOOK_SECONDS = 1.0
"""How often it looks at the load."""
SCALINGS_KEPT = 100


class Autoscaler:
    """Resizes a pool once it is started. scalings: its last decisions."""

    def __init__(self, replicas: ReplicaSet, stats: Callable[[], PoolStats]):
        self.scalings: deque[Scaling] = deque(maxlen=SCALINGS_KEPT)
        self._replicas, self._stats = replicas, stats
        self._task: asyncio.Task | None = None

    def start(self, limits: Limits) -> None:
        """Begins to follow the load, within these limits in place of those before."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._follow(limits))

    async def stop(self) -> None:
        """Ends it; returns when the actors that it was starting are gone, and not counted."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _follow(self, limits: Limits) -> None:
        began, replicas = now(), self._replicas
        scale, before, looked = Scale(replicas.size), self._stats(), began
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            time, after = now(), self._stats()
            load = _load_between(before, after, time - looked)
            scale = rescale(replace(scale, actors=replicas.size), load, time, limits)
            before, looked, wanted = after, time, scale.actors
            if wanted > replicas.size:
                wanted = min(wanted, replicas.size + replicas.capacity())
            if wanted == replicas.size:
                continue
            scaling = Scaling(time - began, replicas.size, wanted, load)
            try:
                await replicas.resize(wanted)
            except (UserError, RayError) as error:  # one that died on the way ends no autoscaling
                scaling = replace(scaling, trouble=str(error))
            self.scalings.append(scaling)


def _load_between(before: PoolStats, after: PoolStats, seconds: float) -> Load:
    """Returns what happened between two snapshots of a pool, `seconds` apart."""
    work = [stats.asked - stats.memo_hits - stats.shared for stats in (before, after)]
    return Load(
        queue_age=after.queue_age,
        busy=min(1.0, (after.occupied - before.occupied) / (seconds * max(1, after.actors))),
        arrivals=(work[1] - work[0]) / seconds,
        service=sum(after.busy.values()) / max(1, after.scored),
    )
