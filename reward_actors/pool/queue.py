"""The order in which queries wait."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

from configs import UserError
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.shared.fair import FairQueue


@dataclass
class Item:
    """A query on its way to an answer.

    priority: lower goes first. since: when it began to wait (monotonic seconds).
    suspect: its actor died or failed, it is tried alone. tried: it has been handed to an actor that lived, alone.
    deaths: actors that died of that. fingerprint: of the actor that scored it.
    client: whose turn it takes. others: by name, the clients who wait for the same answer, each with its own item.
    """

    query: RewardQuery
    result: asyncio.Future
    priority: int = 0
    since: float = field(default_factory=time.monotonic)
    suspect: bool = False
    tried: bool = False
    deaths: int = 0
    fingerprint: str = ""
    client: str = ""
    others: dict[str, Item] = field(default_factory=dict)

    def answer(self, result: Scored | Failed, fingerprint: str = "") -> None:
        """Ends it; a second answer, of an actor given up too early, changes nothing."""
        if not self.result.done():
            self.fingerprint = fingerprint
            self.result.set_result(result)

    def refuse(self, error: UserError) -> None:
        """Ends it with an error of the user's, as `answer`."""
        if not self.result.done():
            self.result.set_exception(error)

    def pass_on(self) -> bool:
        """It becomes that of the next client who waits for it; False where none does.

        For when its client is gone, or is about to be seen to be: that client's process owned the picture.
        """
        if not self.others:
            return False
        heir = self.others.pop(next(iter(self.others)))
        self.client, self.query, self.priority = heir.client, heir.query, heir.priority
        return True


class PullQueue:
    """Work waits here until an actor has room; hardly anything is assigned ahead of that (`Crew`).

    Ordered by turns between clients, and within a client by priority, then by arrival. Suspects (queries whose actor
    died or failed) wait in a queue of their own, because each of them must be tried alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """clock: seconds, as in `Item.since`; a simulation brings its own."""
        self._clock = clock
        self._queues: dict[bool, FairQueue[Item]] = {False: FairQueue(), True: FairQueue()}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def push(self, item: Item) -> None:
        self._queues[item.suspect].push(item, item.priority, item.client)

    def pop(self, suspect: bool = False) -> Item:
        """The next item, of the suspects or of the others. Raises IndexError where none waits."""
        return self._queues[suspect].pop()

    def remove(self, client: str) -> list[Item]:
        """Takes out all that waits of a client, and returns it."""
        return [item for queue in self._queues.values() for item in queue.remove(client)]

    def waiting(self, suspect: bool = False) -> int:
        return len(self._queues[suspect])

    def by_client(self) -> Counter[str]:
        """How many items of each client wait."""
        return sum((Counter(queue.waiting()) for queue in self._queues.values()), Counter())

    def age(self) -> float:
        """Seconds since the oldest item began to wait."""
        oldest = min((item.since for item in chain(*self._queues.values())), default=None)
        return 0.0 if oldest is None else self._clock() - oldest

    def drain(self) -> list[Item]:
        """Everything that waits; the queue is empty afterwards."""
        return [item for client in self.by_client() for item in self.remove(client)]
