"""The actors of a pool at work: who of them takes what waits, and what comes of a query whose actor dies."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Sequence

import ray
from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.background import Background
from configs.deaths import told
from configs.schema import Reward
from envs.samples import Failed, RewardQuery, Scored
from reward_actors.parcels import Finished
from reward_actors.queue import Item, PullQueue
from reward_actors.roster import Roster
from reward_actors.slot import Slot

DEATHS_ALONE = 2
"""Actors a query may kill, alone in each, before it is `Failed`. In company nobody knows who is to blame."""


class Crew:
    """Takes items from a queue of its own and ends each with `Scored`, `Failed` or a UserError.

    Every change (an item, an answer, a death, a resize) ends in `_dispatch`, which hands what waits to
    actors of its `roster` that have room.
    """

    def __init__(self, actor_class: type, settings: Reward, size: int):
        self._patience = settings.timeout
        self.queue = PullQueue()
        self._background = Background()
        self.roster = Roster(actor_class, settings, size, self._background, self._dispatch)
        self._serial, self._dispatching = itertools.count(), False

    def put(self, item: Item) -> None:
        """Queues an item; its result comes by its future. What comes in one turn of the loop is handed out together."""
        self.queue.push(item)
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    async def close(self) -> None:
        """Ends all actors at once, whatever they hold."""
        await self._background.cancel()
        self.roster.close()

    def _dispatch(self) -> None:
        """Hands waiting queries to actors with room. A suspect gets an actor to itself, once it is empty."""
        self._dispatching = False
        if not self.roster.slots:
            for item in self.queue.drain():
                item.answer(Failed(f"there is no reward actor; the last one: {self.roster.last_death}"))
        if self.queue.waiting(suspect=True):
            slot = next((slot for slot in self.roster.slots if slot.alone), None) or self._emptiest()
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
        heap = [(len(slot.in_flight), place, slot) for place, slot in enumerate(self.roster.slots) if slot.takes_work]
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
        free = [slot for slot in self.roster.slots if slot.has_room]
        return min(free, key=lambda slot: len(slot.in_flight), default=None)

    def _hand(self, slot: Slot, items: Sequence[Item]) -> None:
        parcel = [(next(self._serial), item.query) for item in items]
        for (serial, _), item in zip(parcel, items, strict=True):
            slot.take(serial, item)
        self._background.spawn(self._send(slot, slot.actor, parcel))
        if not slot.listening:
            slot.listening = True
            self._background.spawn(self._listen(slot, slot.actor))

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
                self.roster.bury(slot, told(error))
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
        self.roster.dismiss(slot)
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
                done, _ = await asyncio.wait([answers], timeout=self._patience)
                if done:
                    return answers.result()
                now = await asyncio.wait_for(_awaited(actor.steps.remote()), self._patience)
                if now == steps:
                    raise TimeoutError(f"no step in {self._patience:g} s")
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


async def _awaited(reference: ray.ObjectRef):
    return await reference
