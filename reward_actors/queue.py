"""The order in which queries wait."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from envs.samples import Failed, RewardQuery, Scored


@dataclass
class Item:
    """A query on its way to an answer.

    priority: lower goes first. since: when it came (monotonic seconds).
    deaths: actors that died while it was alone in them. fingerprint: of the actor that scored it.
    """

    query: RewardQuery
    result: asyncio.Future
    priority: int = 0
    since: float = field(default_factory=time.monotonic)
    suspect: bool = False
    deaths: int = 0
    fingerprint: str = ""

    def answer(self, result: Scored | Failed, fingerprint: str = "") -> None:
        """Ends it; a second answer, of an actor given up too early, changes nothing."""
        if not self.result.done():
            self.fingerprint = fingerprint
            self.result.set_result(result)


class PullQueue:
    """Work waits here until an actor has room; nothing is assigned ahead of that.

    Ordered by priority, then by arrival. Suspects (queries whose actor died or failed) wait in a queue
    of their own, because each of them must be tried alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """clock: seconds, as in `Item.since`; a simulation brings its own."""
        self._clock = clock
        self._heaps: dict[bool, list[tuple[int, int, Item]]] = {False: [], True: []}
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    def push(self, item: Item) -> None:
        heapq.heappush(self._heaps[item.suspect], (item.priority, next(self._arrivals), item))

    def pop(self, suspect: bool = False) -> Item:
        """The next item, of the suspects or of the others. Raises IndexError where none waits."""
        return heapq.heappop(self._heaps[suspect])[2]

    def waiting(self, suspect: bool = False) -> int:
        return len(self._heaps[suspect])

    def age(self) -> float:
        """Seconds since the oldest item came."""
        since = [item.since for heap in self._heaps.values() for _, _, item in heap]
        return self._clock() - min(since) if since else 0.0

    def drain(self) -> list[Item]:
        """Everything that waits; the queue is empty afterwards."""
        items = [item for heap in self._heaps.values() for _, _, item in heap]
        for heap in self._heaps.values():
            heap.clear()
        return items
