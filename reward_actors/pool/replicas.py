"""The actors of a pool as they come and go: how many, who is ready, and new ones for those that die."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import ray
from ray.exceptions import RayError

from configs import UserError
from configs.cluster.background import Background
from configs.schema import Reward
from reward_actors.pool.slot import Slot
from reward_actors.pool.stats import IDLE, Report

MAX_RESTARTS = 20
"""Of one actor, without a restoration between them; more is no accident."""
LEFT = "left"
"""The name under which those that are gone are counted, all together."""
BACK_OFF_SECONDS = (0.1, 10.0)
"""The pause before a restart, doubled up to the second number while no restoration succeeds."""


class Roster:
    """slots: the places, each with its actor if it has one now. last_death: why the last one died, in one line.

    restarts, restart_seconds: actors started anew, and how long their places stood empty.
    fingerprint: what shapes the scores, as the first actor told; empty before. Others are not let in.
    """

    def __init__(
        self, actor_class: type, settings: Reward, size: int, background: Background, changed: Callable[[], None]
    ):
        """background: where restarts run. changed: called when an actor has become ready, or a place is given up."""
        self._actor_class, self._settings, self._size = actor_class, settings, size
        self._background, self._changed = background, changed
        self.slots: list[Slot] = []
        self.restarts, self.restart_seconds, self.last_death = 0, 0.0, ""
        self.fingerprint = ""
        self._left, self._left_occupied = IDLE, 0.0
        self._names = itertools.count()

    async def resize(self, actors: int) -> None:
        """Grows or shrinks while it works; actors that go finish what they hold. See `RewardPool.resize`."""
        staying = [slot for slot in self.slots if not slot.draining]
        for slot in staying[actors:]:
            slot.draining = True
            self.dismiss(slot)
        new = [Slot(f"reward-{next(self._names)}") for _ in range(actors - len(staying))]
        self.slots += new
        ends = await asyncio.gather(*(self._join(slot) for slot in new), return_exceptions=True)
        for error in filter(None, ends):
            raise error

    @property
    def actors(self) -> int:
        """Actors wanted: those that work, and those being started or restarted, without those that leave."""
        return sum(not slot.draining for slot in self.slots)

    def reports(self) -> dict[str, tuple[Report, float]]:
        """What each actor has done and the seconds in which it held a query, by name; those that left under `LEFT`."""
        there = {slot.name: (slot.report, slot.occupied) for slot in self.slots}
        return there | ({LEFT: (self._left, self._left_occupied)} if self._left_occupied else {})

    def placeable(self) -> int:
        """How many more actors the free resources of the cluster would hold."""
        free = ray.available_resources()
        needs = {"CPU": self._settings.cpus, "GPU": self._settings.gpus}
        return int(min((free.get(name, 0.0) / need + 1e-6 for name, need in needs.items() if need), default=1e6))

    def dismiss(self, slot: Slot) -> None:
        """Ends an actor that is to go, if it holds nothing any more."""
        if slot.draining and not slot.in_flight:
            self._remove(slot)

    def bury(self, slot: Slot, reason: str) -> None:
        """Notes a death, and fills the place again."""
        self.last_death = reason
        print(f"reward actor {slot.name} is started anew: {reason}", flush=True)
        slot.kill()
        self._background.spawn(self._restart(slot))

    def close(self) -> None:
        """Ends all actors at once, whatever they hold."""
        for slot in list(self.slots):
            self._remove(slot)

    async def _join(self, slot: Slot) -> None:
        try:
            await self._fill(slot)
        except BaseException:  # cancelled too: nobody would wait for it any more
            self._remove(slot)
            raise

    async def _fill(self, slot: Slot) -> None:
        await slot.open(self._actor_class, self._settings, self._size)
        if slot not in self.slots:  # the pool shrank meanwhile
            slot.kill()
        elif self.fingerprint not in ("", slot.fingerprint):
            slot.kill()
            raise another_prior(f"reward actor {slot.name}")
        else:
            self.fingerprint = slot.fingerprint
        self._changed()

    async def _restart(self, slot: Slot) -> None:
        """Fills a place again after a pause that grows while it fails; gives it up after `MAX_RESTARTS`."""
        (first, longest), began = BACK_OFF_SECONDS, time.monotonic()
        while slot in self.slots and not slot.draining:
            if slot.failures_in_row >= MAX_RESTARTS:
                starts = f"{MAX_RESTARTS} starts without a restoration"
                print(f"reward actor {slot.name} is given up after {starts}: {self.last_death}", flush=True)
                break
            await asyncio.sleep(min(longest, first * 2**slot.failures_in_row))
            slot.failures_in_row += 1
            self.restarts += 1
            try:
                await self._fill(slot)
                self.restart_seconds += time.monotonic() - began
                return
            except (RayError, UserError) as error:
                self.last_death = str(error)
                slot.kill()
        self._remove(slot)
        self._changed()

    def _remove(self, slot: Slot) -> None:
        if slot in self.slots:
            slot.kill()
            self.slots.remove(slot)
            self._left, self._left_occupied = self._left + slot.report, self._left_occupied + slot.occupied


def another_prior(who: str) -> UserError:
    """For an actor or a pool whose scores would not be those a job has had until now."""
    return UserError(
        f"{who} loaded another prior, or other weights of a scorer, than those before: a file changed during the job. "
        "Put the old one back, or start the job anew, so that one job has one reward"
    )
