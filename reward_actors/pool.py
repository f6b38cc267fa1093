"""The pool of reward actors: one queue they pull from, nothing asked twice, nothing lost when one dies."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace

import ray
from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.schema import Config
from envs.samples import Failed, RewardQuery, Scored
from reward_actors.actor import IDLE, Report
from reward_actors.memo import Memo
from reward_actors.queue import Item, PullQueue
from reward_actors.slot import Slot

BOUND = 4096
"""Queries queued or under way at once; who brings more waits."""
BACK_OFF_SECONDS = (0.1, 10.0)
"""The pause before a restart, doubled up to the second number while no restoration succeeds."""
DEATHS_ALONE = 2
"""Actors a query may kill, alone in each, before it is `Failed`. In company nobody knows who is to blame."""


@dataclass(frozen=True)
class PoolStats:
    """What a pool has done since it started.

    asked = memo_hits + shared + the queries that became work; scored and failed count the latter's ends.
    shared: answered by the same query already under way. busy: seconds at work, by actor name.
    """

    asked: int
    memo_hits: int
    shared: int
    scored: int
    failed: int
    restarts: int
    actors: int
    queued: int
    in_flight: int
    queue_age: float
    image_steps: int
    denoiser_seconds: float
    busy: dict[str, float]


class RewardPool:
    """Scores queries on reward actors. Lives in one asyncio loop of the driver; Ray must be initialised.

    Every change (a new query, an answer, a death, a resize) ends in `_dispatch`, which hands queued work to
    actors that have room.
    """

    def __init__(self, config: Config):
        self._settings, self._size = config.reward, config.world.size
        self._memo = Memo(config.reward.memo)
        self._pending: dict[tuple, asyncio.Future] = {}
        self._queue = PullQueue()
        self._slots: list[Slot] = []
        self._tasks: set[asyncio.Task] = set()
        self._serial, self._names = itertools.count(), itertools.count()
        self._room = asyncio.Semaphore(BOUND)
        self._counts = dict.fromkeys(("asked", "memo_hits", "shared", "scored", "failed", "restarts"), 0)
        self._gone: dict[str, Report] = {}
        self._last_death, self._closed = "", False

    async def start(self) -> None:
        """Creates the actors and waits until each has loaded its prior.

        Raises:
            UserError: the prior cannot be loaded, or the cluster cannot hold the actors.
        """
        await self.resize(self._settings.actors)

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
        """Grows or shrinks the pool while it works; actors that go finish what they hold, nothing is lost."""
        if actors < 1:
            raise ValueError(f"a pool needs at least one actor, not {actors}")
        staying = [slot for slot in self._slots if not slot.draining]
        for slot in staying[actors:]:
            slot.draining = True
            self._retire_if_empty(slot)
        new = [Slot(f"reward-{next(self._names)}") for _ in range(actors - len(staying))]
        self._slots += new
        await asyncio.gather(*(self._fill(slot) for slot in new))

    def stats(self) -> PoolStats:
        """A snapshot; cheap, asks nobody."""
        reports = {slot.name: slot.report for slot in self._slots} | self._gone
        total = sum(reports.values(), IDLE)
        return PoolStats(
            **self._counts,
            actors=sum(slot.live and not slot.draining for slot in self._slots),
            queued=len(self._queue),
            in_flight=sum(len(slot.in_flight) for slot in self._slots),
            queue_age=self._queue.age(),
            image_steps=total.image_steps,
            denoiser_seconds=total.denoiser,
            busy={name: report.busy for name, report in reports.items()},
        )

    def processes(self) -> dict[str, int]:
        """Process id of each live actor, by name."""
        return {slot.name: slot.pid for slot in self._slots if slot.live}

    async def close(self) -> None:
        """Ends all actors. Queries still under way come back `Failed`."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in list(self._slots):
            self._remove(slot)
        for future in list(self._pending.values()):
            _answer(future, Failed("the reward pool was closed"))

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
        future.add_done_callback(lambda done: self._settle(query, done))
        self._queue.push(Item(query, future, priority))
        self._dispatch()
        return future

    def _known(self, query: RewardQuery) -> asyncio.Future | None:
        if (future := self._pending.get(query.key)) is not None:
            self._counts["shared"] += 1
            return future
        if (scored := self._memo.get((*query.key, self._fingerprint))) is None:
            return None
        self._counts["memo_hits"] += 1
        future = asyncio.get_running_loop().create_future()
        future.set_result(replace(scored, cached=True))
        return future

    def _settle(self, query: RewardQuery, done: asyncio.Future) -> None:
        self._room.release()
        self._pending.pop(query.key, None)
        if done.exception() is None:
            self._counts["scored" if isinstance(done.result(), Scored) else "failed"] += 1

    @property
    def _fingerprint(self) -> str:
        return next((slot.fingerprint for slot in self._slots if slot.fingerprint), "")

    # working

    def _dispatch(self) -> None:
        """Hands waiting queries to actors with room. A suspect gets an actor to itself, once it is empty."""
        if not self._slots:
            for item in self._queue.drain():
                _answer(item.result, Failed(f"there is no reward actor; the last one: {self._last_death}"))
        if self._queue.waiting(suspect=True):
            slot = next((slot for slot in self._slots if slot.alone), None) or self._emptiest()
            if slot is not None:
                slot.alone = True
                if not slot.in_flight:
                    self._hand(slot, self._queue.pop(suspect=True))
        while self._queue.waiting() and (slot := self._emptiest()) is not None:
            self._hand(slot, self._queue.pop())

    def _emptiest(self) -> Slot | None:
        """The actor with the least to do among those that can take one more."""
        takes_work = [slot for slot in self._slots if slot.live and not slot.draining and not slot.alone]
        slot = min(takes_work, key=lambda slot: len(slot.in_flight), default=None)
        return slot if slot is not None and len(slot.in_flight) < self._settings.batch else None

    def _hand(self, slot: Slot, item: Item) -> None:
        serial = next(self._serial)
        slot.in_flight.add(serial)
        self._spawn(self._work(slot, serial, item))

    async def _work(self, slot: Slot, serial: int, item: Item) -> None:
        """One query in one actor, to its end: scored, failed, or back in the queue as a suspect."""
        actor = slot.actor
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
            self._memo.put((*item.query.key, slot.fingerprint), scored)
            if slot.actor is actor:
                slot.heard(report)
            _answer(item.result, scored)
        slot.in_flight.discard(serial)
        slot.alone = slot.alone and bool(slot.in_flight)
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
            _answer(item.result, Failed(reason))
        else:
            item.suspect = True
            self._queue.push(item)

    # actors

    def _bury(self, slot: Slot, actor, reason: str) -> None:
        """Notes a death, and fills the slot again; only the first query to hear of it does."""
        if slot.actor is not actor or actor is None:
            return
        self._last_death = reason
        slot.kill()
        self._spawn(self._restart(slot))

    async def _fill(self, slot: Slot) -> None:
        await slot.open(self._settings, self._size)
        if slot not in self._slots:  # the pool shrank meanwhile
            slot.kill()
        self._dispatch()

    async def _restart(self, slot: Slot) -> None:
        """Fills a slot again after a pause that grows while it fails; gives it up after `max_restarts`."""
        first, longest = BACK_OFF_SECONDS
        while slot.restarts < self._settings.max_restarts and slot in self._slots:
            await asyncio.sleep(min(longest, first * 2**slot.failures_in_row))
            slot.restarts += 1
            slot.failures_in_row += 1
            self._counts["restarts"] += 1
            try:
                await self._fill(slot)
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
        if slot in self._slots:
            slot.kill()
            self._slots.remove(slot)
            self._gone[slot.name] = slot.report

    def _spawn(self, work: Coroutine) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _awaited(reference: ray.ObjectRef):
    return await reference


def _answer(future: asyncio.Future, answer: Scored | Failed) -> None:
    if not future.done():
        future.set_result(answer)
