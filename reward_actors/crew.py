"""The actors of a pool: who of them takes what waits, who comes, who goes, and what happens when one dies."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Coroutine, Sequence

import ray
from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.deaths import told
from configs.schema import Reward
from envs.samples import Failed, RewardQuery, Scored
from reward_actors.parcels import Finished
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
        self._last_death, self._dispatching = "", False

    def put(self, item: Item) -> None:
        """Queues an item; its result comes by its future. What comes in one turn of the loop is handed out together."""
        self.queue.push(item)
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    async def resize(self, actors: int) -> None:
        """Grows or shrinks while it works; actors that go finish what they hold. See `RewardPool.resize`."""
        staying = [slot for slot in self.slots if not slot.draining]
        for slot in staying[actors:]:
            slot.draining = True
            self._turn(slot)
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
        self._dispatching = False
        if not self.slots:
            for item in self.queue.drain():
                item.answer(Failed(f"there is no reward actor; the last one: {self._last_death}"))
        if self.queue.waiting(suspect=True):
            slot = next((slot for slot in self.slots if slot.alone), None) or self._emptiest()
            if slot is not None:
                slot.alone = True
                if not slot.in_flight:
                    self._hand(slot, [self.queue.pop(suspect=True)])
        for slot, items in self._dealt().items():
            self._hand(slot, items)

    def _dealt(self) -> dict[Slot, list[Item]]:
        """What waits, one after the other for the actor with the least to do, as far as they have room.

        While more waits than all of them hold, each is handed a few `ahead`; not at the end, when another would be
        idle for it."""
        heap = [(len(slot.in_flight), place, slot) for place, slot in enumerate(self.slots) if slot.takes_work]
        heapq.heapify(heap)
        rows, parcels = sum(slot.rows for *_, slot in heap), {}
        while self.queue.waiting() and heap:
            load, place, slot = heapq.heappop(heap)
            ahead = slot.ahead if self.queue.waiting() > rows else 0
            if load < slot.rows + ahead:
                parcels.setdefault(slot, []).append(self.queue.pop())
                heapq.heappush(heap, (load + 1, place, slot))
        return parcels

    def _emptiest(self) -> Slot | None:
        return min((slot for slot in self.slots if slot.has_room), key=lambda slot: len(slot.in_flight), default=None)

    def _hand(self, slot: Slot, items: Sequence[Item]) -> None:
        parcel = [(next(self._serial), item.query) for item in items]
        for (serial, _), item in zip(parcel, items, strict=True):
            slot.take(serial, item)
        self._spawn(self._send(slot, slot.actor, parcel))
        if not slot.listening:
            slot.listening = True
            self._spawn(self._listen(slot, slot.actor))

    async def _send(self, slot: Slot, actor, parcel: Sequence[tuple[int, RewardQuery]]) -> None:
        try:
            await _awaited(actor.put.remote(parcel))
        except RayActorError:  # whoever listens hears of it
            return
        except (RayError, TypeError) as error:  # it cannot be packed here, or unpacked there
            reason = str(error).strip().splitlines()[-1]
            for item in slot.release([serial for serial, _ in parcel if serial in slot.in_flight]):
                self._again(item, reason, item.suspect)
            self._turn(slot)

    async def _listen(self, slot: Slot, actor) -> None:
        """Ends the queries of an actor as they are done, as long as it holds any; after its death all at once."""
        try:
            while slot.in_flight:
                finished = await self._finished(actor)
                slot.heard(finished)
                items = slot.release([answer.serial for answer in finished.answers])
                for item, answer in zip(items, finished.answers, strict=True):
                    self._end(item, answer.result, slot.fingerprint)
                self._turn(slot)
            slot.listening = False
        except (RayError, TimeoutError) as error:
            slot.listening = False
            held = slot.release(list(slot.in_flight))
            for item in held:
                item.deaths += item.suspect  # suspects are tried alone
                self._again(item, f"it ended {DEATHS_ALONE} actors: {error}", item.deaths >= DEATHS_ALONE)
            if held or isinstance(error, RayActorError):  # no step because there was nothing to do is no death
                self._bury(slot, told(error))
            self._turn(slot)

    def _end(self, item: Item, result: Scored | Failed | UserError, fingerprint: str) -> None:
        if isinstance(result, Scored):
            item.answer(result, fingerprint)
        elif isinstance(result, Failed):  # by an actor that lives: once in company, once alone
            self._again(item, result.reason, item.suspect)
        elif not item.result.done():
            item.result.set_exception(result)

    def _turn(self, slot: Slot) -> None:
        """Something has left an actor."""
        if slot.draining and not slot.in_flight:
            self._remove(slot)
        self._dispatch()

    async def _finished(self, actor) -> Finished:
        """The next answers; waits as long as the actor goes on stepping.

        Raises:
            TimeoutError: no step between two looks, `reward.timeout` seconds apart.
        """
        answers = asyncio.ensure_future(_awaited(actor.take.remote()))
        steps = -1
        try:
            while True:
                done, _ = await asyncio.wait([answers], timeout=self._settings.timeout)
                if done:
                    return answers.result()
                now = await asyncio.wait_for(_awaited(actor.steps.remote()), self._settings.timeout)
                if now == steps:
                    raise TimeoutError(f"no step in {self._settings.timeout:g} s")
                steps = now
        finally:
            answers.cancel()

    def _again(self, item: Item, reason: str, hopeless: bool) -> None:
        if item.result.done():  # nobody waits for it any more
            return
        if hopeless and not item.pass_on():  # the picture of another client may be had where this one's is not
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

    def _bury(self, slot: Slot, reason: str) -> None:
        """Notes a death, and fills the slot again."""
        self._last_death = reason
        print(f"reward actor {slot.name} is started anew: {reason}", flush=True)
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
