"""The queries that wait for a reward actor: their states, the order in which they go, and how many a client has."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from configs import UserError
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.stats import Counts

T = TypeVar("T")

SLOTS = 4096
"""Queries of one client that are queued or under way at once; what it brings beyond waits outside."""
MAX_ATTEMPTS = 2
"""Actors that a query may kill while it is alone in them before it is `Failed`."""


class QueryState(Enum):
    """Says where a query is on its way to a result; `QueuedQuery` has an example."""

    QUEUED = auto()  # waits for an actor, which it may share with others
    RUNNING = auto()  # is in an actor, perhaps beside others
    SUSPECT = auto()  # waits for an actor of its own: the last one died, or failed, with it and perhaps others
    PROBING = auto()  # has an actor of its own, which is asked for a sign of life first
    ISOLATED = auto()  # is alone in an actor that was alive when it came
    DONE = auto()  # has its result


def state_after_failure(state: QueryState, attempts: int, actor_died: bool) -> tuple[QueryState, int]:
    """Decides whether a query is to blame for a failure, or is tried again alone.

    Args:
        state: the query's state when it happened.
        attempts: actors that have died of it so far while it was alone in them.
        actor_died: False where the actor lives, and answers that the query, or a neighbour, broke something.

    Returns:
        DONE, where the query is to blame, or SUSPECT; and the attempts by now.
    """
    if not actor_died:
        alone = state in (QueryState.PROBING, QueryState.ISOLATED)
        return (QueryState.DONE if alone else QueryState.SUSPECT), attempts
    if state is not QueryState.ISOLATED:
        return QueryState.SUSPECT, attempts
    attempts += 1
    return (QueryState.DONE if attempts >= MAX_ATTEMPTS else QueryState.SUSPECT), attempts


class ClientQuota:
    """Bounds what one client has queued or under way (a slot each), and counts what became of it.

    A client that comes again after it has left, which closes its quota, has another one, with another `id`.
    """

    def __init__(self, client: str):
        self.client, self.id, self.closed = client, uuid.uuid4().hex, False
        self.slots, self.asking = asyncio.Semaphore(SLOTS), asyncio.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """Adds one to a field of `Counts`."""
        self._counts[name] += 1

    @property
    def counts(self) -> Counts:
        return Counts(**self._counts)


def now() -> float:
    """Reads the pool's only clock, in seconds: that of the running event loop, which may be a virtual one."""
    return asyncio.get_running_loop().time()


@dataclass
class QueuedQuery:
    """Carries a query, its state and its attempts until `result` is set.

    An example: the queries p and q are in one actor; q kills whatever restores it.

    ================================  ==================  ==========
    what happens                      state of q          attempts
    ================================  ==================  ==========
    both are put into the queue       QUEUED              0
    reward-0 takes both               RUNNING             0
    reward-0 dies; by which of them?  SUSPECT             0
    reward-1 is reserved, and empty   PROBING             0
    reward-1 shows that it lives      ISOLATED            0
    reward-1 dies                     SUSPECT             1
    reward-2, in the same way         PROBING, ISOLATED   1
    reward-2 dies                     DONE: `Failed`      2
    ================================  ==================  ==========

    p is SUSPECT too, is restored alone, and is DONE: `Scored`. An actor that dies while q is PROBING was dead before
    q came, which does not count as an attempt.

    Attributes:
        result: `Scored` or `Failed` to come, or a UserError.
        priority: lower goes first, within a client.
        since: when it began to wait, as `now`.
        client: whose turn it takes.
        fingerprint: of the actor that scored it.
        others: the other clients who wait for the same result, each with its own query, by name.
    """

    query: RewardQuery
    result: asyncio.Future
    priority: int = 0
    since: float = 0.0
    client: str = ""
    state: QueryState = QueryState.QUEUED
    attempts: int = 0
    fingerprint: str = ""
    others: dict[str, QueuedQuery] = field(default_factory=dict)

    def assign(self) -> None:
        """Notes that an actor has been chosen for it."""
        if self.state is QueryState.QUEUED:
            self.state = QueryState.RUNNING
        elif self.state is QueryState.SUSPECT:
            self.state = QueryState.PROBING

    def isolate(self) -> None:
        """Notes that the actor it has to itself is alive."""
        if self.state is QueryState.PROBING:
            self.state = QueryState.ISOLATED

    def answer(self, result: Scored | Failed, fingerprint: str = "") -> None:
        """Sets the result; a second one, from an actor that was given up too early, changes nothing."""
        if self.state is not QueryState.DONE:
            self.state, self.fingerprint = QueryState.DONE, fingerprint
            self.result.set_result(result)

    def refuse(self, error: UserError) -> None:
        """Sets an error of the user's in place of a result, as `answer` does."""
        if self.state is not QueryState.DONE:
            self.state = QueryState.DONE
            self.result.set_exception(error)

    def pass_on(self) -> bool:
        """Makes it the query of the next client who waits for the same result; returns False where there is none.

        Needed when its client is gone, or dying: the process of that client owned the picture.
        """
        if not self.others:
            return False
        heir = self.others.pop(next(iter(self.others)))
        self.client, self.query, self.priority = heir.client, heir.query, heir.priority
        return True


class PullQueue(Generic[T]):
    """Keeps what waits until an actor has room for it; hardly anything is assigned ahead of that.

    Within a client the lowest priority goes first, then the first that came. Between clients: start-time fair queuing
    (Goyal, Vin and Cheng, SIGCOMM 1996) with equal weights, in which every item costs one turn. A client that begins
    to wait begins at the present turn, or where it has got to if that is later: those who always wait get equal
    shares, and nobody saves up turns while asking for nothing.
    """

    def __init__(self):
        self._lanes: dict[str, list[tuple[int, int, T]]] = {}  # of those who wait, none empty
        self._turns: dict[str, int] = {}
        self._turn = 0  # of the last that was served
        self._arrivals, self._length = itertools.count(), 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        """Iterates over all that waits, in no order."""
        return (item for lane in self._lanes.values() for _, _, item in lane)

    def push(self, item: T, priority: int = 0, client: str = "") -> None:
        """Adds an item to those of its client."""
        lane = self._lanes.get(client)
        if lane is None:
            lane = self._lanes[client] = []
            self._turns[client] = max(self._turns.get(client, 0), self._turn)
        heapq.heappush(lane, (priority, next(self._arrivals), item))
        self._length += 1

    def pop(self) -> T:
        """Takes out the next item. Raises IndexError where none waits."""
        if not self._lanes:
            raise IndexError("nothing waits")
        client = next(iter(self._lanes)) if len(self._lanes) == 1 else min(self._lanes, key=self._turns.__getitem__)
        lane, self._turn = self._lanes[client], self._turns[client]
        self._turns[client] += 1
        item = heapq.heappop(lane)[2]
        self._length -= 1
        if not lane:
            self._close_lane(client)
        return item

    def remove(self, client: str) -> list[T]:
        """Takes out all that waits of a client, and returns it in its order."""
        lane = self._lanes.get(client)
        if lane is None:
            return []
        self._close_lane(client)
        self._length -= len(lane)
        return [item for _, _, item in sorted(lane, key=lambda entry: entry[:2])]

    def _close_lane(self, client: str) -> None:
        del self._lanes[client]
        if not self._lanes:  # nobody waits: all are equal again
            self._turns.clear()
            self._turn = 0
