"""The actors of a pool: who of them takes what waits, who comes, who goes, and what happens when one dies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine

import ray
from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.schema import Reward
from envs.samples import Failed, Scored
from reward_actors.queue import Item, PullQueue
from reward_actors.slot import Slot
from reward_actors.stats import Report

MAX_RESTARTS = 20
"""Of one actor; more is no accident."""
BACK_OFF_SECONDS = (0.1, 10.0)
"""The pause before a restart, doubled up to the second number while no restoration succeeds."""
DEATHS_ALONE = 2
"""Actors a query may kill, alone in each, before it is `Failed`. In company nobody knows who is to blame."""


class Crew:
    """Takes items from a queue of its own and ends each with `Scored`, `Failed` or a UserError.

    Every change (an item, an answer, a death, a resize) ends in `_dispatch`, which hands what waits to
    actors that have room.
    """

    def __init__(self, actor_class: type, settings: Reward, size: int):
        self._actor_class, self._settings, self._size = actor_class, settings, size
        self.queue = PullQueue()
        self.slots: list[Slot] = []
        self.restarts, self.restart_seconds = 0, 0.0
        self._gone: dict[str, tuple[Report, float]] = {}
        self._tasks: set[asyncio.Task] = set()
        self._serial, self._names = itertools.count(), itertools.count()
        self._last_death = ""

    def put(self, item: Item) -> None:
        """Queues an item; its result comes by its future."""
        self.queue.push(item)
        self._dispatch()

    async def resize(self, actors: int) -> None:
        """Grows or shrinks while it works; actors that go finish what they hold. See `RewardPool.resize`."""
        staying = [slot for slot in self.slots if not slot.draining]
        for slot in staying[actors:]:
            slot.draining = True
            self._retire_if_empty(slot)
        new = [Slot(f"reward-{next(self._names)}") for _ in range(actors - len(staying))]
        self.slots += new
        ends = await asyncio.gather(*(self._join(slot) for slot in new), return_exceptions=True)
        for error in filter(None, ends):
            raise error

    @property
    def actors(self) -> int:
        """Actors wanted: those that work, and those being started or restarted, without those that leave."""
        return sum(not slot.draining for slot in self.slots)

    @property
    def fingerprint(self) -> str:
        """What shapes the scores: that of every live actor."""
        return next((slot.fingerprint for slot in self.slots if slot.live), "")

    def reports(self) -> dict[str, tuple[Report, float]]:
        """What each actor has done and the seconds in which it held a query, by name; also of those that left."""
        return self._gone | {slot.name: (slot.report, slot.occupied) for slot in self.slots}

    def placeable(self) -> int:
        """How many more actors the free resources of the cluster would hold."""
        free = ray.available_resources()
        needs = {"CPU": self._settings.cpus, "GPU": self._settings.gpus}
        return int(min((free.get(name, 0.0) / need + 1e-6 for name, need in needs.items() if need), default=1e6))

    async def close(self) -> None:
        """Ends all actors at once, whatever they hold."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in list(self.slots):
            self._remove(slot)

    # working

    def _dispatch(self) -> None:
        """Hands waiting queries to actors with room. A suspect gets an actor to itself, once it is empty."""
        if not self.slots:
            for item in self.queue.drain():
                item.answer(Failed(f"there is no reward actor; the last one: {self._last_death}"))
        if self.queue.waiting(suspect=True):
            slot = next((slot for slot in self.slots if slot.alone), None) or self._emptiest()
            if slot is not None:
                slot.alone = True
                if not slot.in_flight:
                    self._hand(slot, self.queue.pop(suspect=True))
        while self.queue.waiting() and (slot := self._emptiest()) is not None:
            self._hand(slot, self.queue.pop())

    def _emptiest(self) -> Slot | None:
        """The actor with the least to do among those that can take one more."""
        open_to_work = [slot for slot in self.slots if slot.takes_work and len(slot.in_flight) < slot.rows]
        return min(open_to_work, key=lambda slot: len(slot.in_flight), default=None)

    def _hand(self, slot: Slot, item: Item) -> None:
        serial = next(self._serial)
        slot.take(serial)
        self._spawn(self._work(slot, serial, item))

    async def _work(self, slot: Slot, serial: int, item: Item) -> None:
        """One query in one actor, to its end: scored, failed, or back in the queue as a suspect."""
        actor, fingerprint = slot.actor, slot.fingerprint
        try:
            scored, report = await self._answer_of(actor, item)
        except (RayActorError, TimeoutError) as error:
            item.deaths += item.suspect  # suspects are tried alone
            self._bury(slot, actor, str(error).strip())
            self._again(item, f"it ended {DEATHS_ALONE} actors: {error}", item.deaths >= DEATHS_ALONE)
        except UserError as error:
            if not item.result.done():
                item.result.set_exception(UserError(str(error.args[0])))
        except RayError as error:  # raised by the actor, which lives: once in company, once alone
            self._again(item, str(error).strip().splitlines()[-1], item.suspect)
        else:
            if slot.actor is actor:
                slot.heard(report)
            item.answer(scored, fingerprint)
        slot.release(serial)
        self._retire_if_empty(slot)
        self._dispatch()

    async def _answer_of(self, actor, item: Item) -> tuple[Scored, Report]:
        """Waits as long as the actor goes on stepping.

        Raises:
            TimeoutError: no step between two looks, `reward.timeout` seconds apart.
        """
        answer = asyncio.ensure_future(_awaited(actor.score.remote(item.query)))
        steps = -1
        try:
            while True:
                done, _ = await asyncio.wait([answer], timeout=self._settings.timeout)
                if done:
                    return answer.result()
                now = await asyncio.wait_for(_awaited(actor.steps.remote()), self._settings.timeout)
                if now == steps:
                    raise TimeoutError(f"no step in {self._settings.timeout:g} s")
                steps = now
        finally:
            answer.cancel()

    def _again(self, item: Item, reason: str, hopeless: bool) -> None:
        if hopeless:
            item.answer(Failed(reason))
        else:
            item.suspect = True
            self.queue.push(item)

    # coming and going

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
        elif any(other.live and other.fingerprint != slot.fingerprint for other in self.slots):
            slot.kill()
            raise UserError(
                f"reward actor {slot.name} loaded another prior than those at work: its file changed during "
                "the job. Put the old one back, or start the job anew, so that one job has one reward"
            )
        self._dispatch()

    def _bury(self, slot: Slot, actor, reason: str) -> None:
        """Notes a death, and fills the slot again; only the first query to hear of it does."""
        if slot.actor is not actor or actor is None:
            return
        self._last_death = reason
        slot.kill()
        self._spawn(self._restart(slot))

    async def _restart(self, slot: Slot) -> None:
        """Fills a slot again after a pause that grows while it fails; gives it up after `MAX_RESTARTS`."""
        (first, longest), began = BACK_OFF_SECONDS, time.monotonic()
        while slot.restarts < MAX_RESTARTS and slot in self.slots and not slot.draining:
            await asyncio.sleep(min(longest, first * 2**slot.failures_in_row))
            slot.restarts += 1
            slot.failures_in_row += 1
            self.restarts += 1
            try:
                await self._fill(slot)
                self.restart_seconds += time.monotonic() - began
                return
            except (RayError, UserError) as error:
                self._last_death = str(error)
                slot.kill()
        self._remove(slot)
        self._dispatch()

    def _retire_if_empty(self, slot: Slot) -> None:
        if slot.draining and not slot.in_flight:
            self._remove(slot)

    def _remove(self, slot: Slot) -> None:
        if slot in self.slots:
            slot.kill()
            self.slots.remove(slot)
            self._gone[slot.name] = (slot.report, slot.occupied)

    def _spawn(self, work: Coroutine) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _awaited(reference: ray.ObjectRef):
    return await reference
