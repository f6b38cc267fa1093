"""The pool of reward actors: nothing asked twice, nothing lost when one dies, as many as the load needs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ray.exceptions import RayError

from configs import UserError
from configs.schema import Config
from envs.samples import Failed, RewardQuery, Scored
from reward_actors.actor import RewardActor
from reward_actors.autoscale import Limits, Scale, Scaling, load_between, rescale
from reward_actors.crew import Crew
from reward_actors.memo import Memo
from reward_actors.queue import Item
from reward_actors.stats import IDLE, PoolStats

BOUND = 4096
"""Queries queued or under way at once; who brings more waits."""
MEMO = 20_000
"""Scores remembered, at most."""
LOOK_SECONDS = 1.0
"""How often the autoscaler looks at the load."""
SCALINGS_KEPT = 100


class RewardPool:
    """Scores queries on reward actors. Lives in one asyncio loop of the driver; Ray must be initialised."""

    def __init__(self, config: Config, actor_class: type = RewardActor, memo: int = MEMO):
        """actor_class: what the actors are, for measuring the pool without restorations. memo: scores remembered."""
        self._settings = config.reward
        self._memo = Memo(memo)
        self._crew = Crew(actor_class, config.reward, config.world.size)
        self._pending: dict[tuple, asyncio.Future] = {}
        self._room = asyncio.Semaphore(BOUND)
        self._counts = dict.fromkeys(("asked", "memo_hits", "shared", "scored", "failed"), 0)
        self._autoscaler: asyncio.Task | None = None
        self._scalings: deque[Scaling] = deque(maxlen=SCALINGS_KEPT)
        self._closed = False

    async def start(self) -> None:
        """Creates the actors and waits until each has loaded its prior; autoscales if `reward.max_actors` says so.

        Raises:
            UserError: the prior cannot be loaded, or the cluster cannot hold the actors.
        """
        fewest, most = self._settings.actors, self._settings.max_actors
        if most and most < fewest:
            raise UserError(f"reward.max_actors={most}: expected 0 or at least reward.actors={fewest}")
        await self._crew.resize(fewest)
        if most:
            self.autoscale(fewest, most)

    async def score(self, queries: Sequence[RewardQuery], priority: int = 0) -> list[Scored | Failed]:
        """Scores queries, in their order; equal (sample_id, degradation) are asked once.

        Args:
            priority: lower goes first; the number of the step or group makes the oldest go first.

        Raises:
            UserError: the configured scorer cannot judge these samples.
        """
        futures = [await self._ask(query, priority) for query in queries]
        answers = await asyncio.gather(*map(asyncio.shield, futures), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def resize(self, actors: int) -> None:
        """Sets the number of actors while they work, and ends autoscaling.

        Actors that go finish what they hold, nothing is lost. Returns when those that come are ready.

        Raises:
            UserError: the cluster cannot hold them, or their prior cannot be loaded; those that came stay.
        """
        if actors < 1:
            raise ValueError(f"a pool needs at least one actor, not {actors}")
        autoscaler = self._autoscaler
        self._stop_autoscaling()
        if autoscaler is not None:
            await asyncio.wait([autoscaler])  # the actors it was starting are gone by then, and not counted
        await self._crew.resize(actors)

    def autoscale(self, fewest: int, most: int, patience: float = 5.0, calm: float = 30.0) -> None:
        """From now on the pool has between `fewest` and `most` actors, as the load needs.

        patience, calm: seconds, see `autoscale.Limits`. What it does is in `stats().scalings`.
        """
        if not 1 <= fewest <= most:
            raise ValueError(f"autoscaling needs 1 <= fewest <= most, not {fewest} and {most}")
        self._stop_autoscaling()
        limits = Limits(fewest, most, patience=patience, calm=calm)
        self._autoscaler = asyncio.get_running_loop().create_task(self._follow_load(limits))

    def stats(self) -> PoolStats:
        """A snapshot; cheap, asks nobody."""
        crew, reports = self._crew, self._crew.reports()
        total = sum((report for report, _ in reports.values()), IDLE)
        return PoolStats(
            **self._counts,
            restarts=crew.restarts,
            restarting=crew.restart_seconds,
            actors=sum(slot.live and not slot.draining for slot in crew.slots),
            queued=len(crew.queue),
            in_flight=sum(len(slot.in_flight) for slot in crew.slots),
            queue_age=crew.queue.age(),
            occupied=sum(occupied for _, occupied in reports.values()),
            image_steps=total.image_steps,
            denoiser_seconds=total.denoiser,
            busy={name: report.busy for name, (report, _) in reports.items()},
            scalings=tuple(self._scalings),
        )

    def processes(self) -> dict[str, int]:
        """Process id of each live actor, by name."""
        return {slot.name: slot.pid for slot in self._crew.slots if slot.live}

    async def close(self) -> None:
        """Ends all actors. Queries still under way come back `Failed`."""
        self._closed = True
        self._stop_autoscaling()
        await self._crew.close()
        for future in list(self._pending.values()):
            if not future.done():
                future.set_result(Failed("the reward pool was closed"))

    # asking

    async def _ask(self, query: RewardQuery, priority: int) -> asyncio.Future:
        """The answer to one query, to come: remembered, under way already, or new work."""
        if self._closed:
            raise RuntimeError("the reward pool is closed")
        self._counts["asked"] += 1
        if (known := self._known(query)) is not None:
            return known
        await self._room.acquire()
        if (known := self._known(query)) is not None:  # asked by somebody else while we waited
            self._room.release()
            return known
        future = asyncio.get_running_loop().create_future()
        self._pending[query.key] = future
        item = Item(query, future, priority)
        future.add_done_callback(lambda _: self._settle(item))
        self._crew.put(item)
        return future

    def _known(self, query: RewardQuery) -> asyncio.Future | None:
        if (future := self._pending.get(query.key)) is not None:
            self._counts["shared"] += 1
            return future
        if (scored := self._memo.get((*query.key, self._crew.fingerprint))) is None:
            return None
        self._counts["memo_hits"] += 1
        future = asyncio.get_running_loop().create_future()
        future.set_result(replace(scored, cached=True))
        return future

    def _settle(self, item: Item) -> None:
        self._room.release()
        self._pending.pop(item.query.key, None)
        if item.result.exception() is not None:
            return
        answer = item.result.result()
        self._counts["scored" if isinstance(answer, Scored) else "failed"] += 1
        if isinstance(answer, Scored) and answer.picture is None:  # pictures are too large to keep
            self._memo.put((*item.query.key, item.fingerprint), answer)

    # autoscaling

    async def _follow_load(self, limits: Limits) -> None:
        began, crew = time.monotonic(), self._crew
        scale, before, seen = Scale(crew.actors), self.stats(), began
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now, after = time.monotonic(), self.stats()
            load = load_between(before, after, now - seen)
            scale = rescale(replace(scale, actors=crew.actors), load, now, limits)
            before, seen = after, now
            wanted = min(scale.actors, crew.actors + crew.placeable()) if scale.actors > crew.actors else scale.actors
            if wanted == crew.actors:
                continue
            scaling = Scaling(now - began, crew.actors, wanted, load)
            try:
                await crew.resize(wanted)
            except (UserError, RayError) as error:  # one that died on the way ends no autoscaling
                scaling = replace(scaling, trouble=str(error))
            self._scalings.append(scaling)

    def _stop_autoscaling(self) -> None:
        if self._autoscaler is not None:
            self._autoscaler.cancel()
        self._autoscaler = None
