"""The actors of a pool at work: who of them takes what waits, and what comes of a query whose actor dies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.cluster.background import Background
from configs.cluster.supervision import describe_failure
from configs.schema import Reward
from envs.types import Failed, Scored
from reward_actors.pool.dealing import dealt, keep
from reward_actors.pool.queue import Item, PullQueue
from reward_actors.pool.replicas import Roster
from reward_actors.pool.slot import Slot

DEATHS_ALONE = 2
"""Actors a query may kill, alone in each, before it is `Failed`. In company nobody knows who is to blame."""

NOBODY = "no reward actor is left, all were given up. The last: {}. Put that right and run the same command again"


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
        slots = self.roster.slots
        if not slots:
            for item in self.queue.drain():
                item.refuse(UserError(NOBODY.format(self.roster.last_death)))
        for slot in slots:
            if slot.live and not slot.listening:
                slot.listening = True
                self._background.spawn(self._listen(slot, slot.actor))
        keep(slots, self.queue)
        for slot in slots:
            if slot.alone and not slot.in_flight:
                self._hand(slot, [self.queue.pop(suspect=True)])
        for slot, items in dealt(slots, self.queue).items():
            self._hand(slot, items)

    def _hand(self, slot: Slot, items: Sequence[Item]) -> None:
        serials = [next(self._serial) for _ in items]
        for serial, item in zip(serials, items, strict=True):
            slot.take(serial, item)
        self._background.spawn(self._send(slot, slot.actor, dict(zip(serials, items, strict=True))))

    async def _send(self, slot: Slot, actor, items: dict[int, Item]) -> None:
        """A suspect goes to an actor that has just answered: one that had died before would be held against it."""
        try:
            if slot.trying:
                await actor.steps.remote()
                if slot.actor is not actor:
                    return
                for item in items.values():
                    item.tried = True
            await actor.put.remote([(serial, item.query) for serial, item in items.items()])
        except RayActorError:  # whoever listens hears of it
            return
        except (RayError, TypeError) as error:  # it cannot be packed here, or unpacked there
            reason = str(error).strip().splitlines()[-1]
            for item in slot.release(items):
                self._again(item, reason, item.suspect)
            self._turn(slot)

    async def _listen(self, slot: Slot, actor) -> None:
        """Ends the queries of an actor as they are done, as long as it lives; after its death all that it held."""
        try:
            while slot.actor is actor:
                finished = await slot.finished(self._patience)
                slot.heard(finished)
                for answer in finished.answers:
                    for item in slot.release([answer.serial]):
                        self._end(item, answer.result, slot.fingerprint)
                self._turn(slot)
        except (RayError, TimeoutError) as error:
            if slot.actor is not actor:  # it was sent away
                return
            for item in slot.release(list(slot.in_flight)):
                item.deaths += item.tried
                hopeless = item.tried and item.deaths >= DEATHS_ALONE
                self._again(item, f"it ended {DEATHS_ALONE} actors: {error}", hopeless)
            self.roster.bury(slot, describe_failure(error))
            self._turn(slot)

    def _end(self, item: Item, result: Scored | Failed | UserError, fingerprint: str) -> None:
        if isinstance(result, Scored):
            item.answer(result, fingerprint)
        elif isinstance(result, Failed):  # by an actor that lives: once in company, once alone
            self._again(item, result.reason, item.suspect)
        else:
            item.refuse(result)

    def _turn(self, slot: Slot) -> None:
        """Something has left an actor."""
        self.roster.dismiss(slot)
        self._dispatch()

    def _again(self, item: Item, reason: str, hopeless: bool) -> None:
        if item.result.done():  # nobody waits for it any more
            return
        if hopeless and not item.pass_on():  # the picture of another client may be had where this one's is not
            item.answer(Failed(reason))
        else:
            item.suspect, item.tried, item.since = True, False, time.monotonic()
            self.queue.push(item)
