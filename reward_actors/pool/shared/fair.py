"""Turns between those who share a pool: whoever has been served least goes next."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """What waits, of several clients. Within a client the lowest priority goes first, then the first that came.

    Between clients: start-time fair queuing (Goyal, Vin and Cheng, SIGCOMM 1996) with equal weights, in which every
    item costs one turn. A client that begins to wait begins at the present turn, or where it has got to if that is
    later: so those who always wait get equal shares, and nobody saves turns up while it asks for nothing.
    """

    def __init__(self):
        self._lanes: dict[str, list[tuple[int, int, T]]] = {}  # of those who wait, none empty
        self._turns: dict[str, int] = {}
        self._now = 0  # the turn of the last that was served
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order."""
        return (item for lane in self._lanes.values() for _, _, item in lane)

    def push(self, item: T, priority: int = 0, client: str = "") -> None:
        lane = self._lanes.get(client)
        if lane is None:
            lane = self._lanes[client] = []
            self._turns[client] = max(self._turns.get(client, 0), self._now)
        heapq.heappush(lane, (priority, next(self._arrivals), item))

    def pop(self) -> T:
        """The next item. Raises IndexError where none waits."""
        if not self._lanes:
            raise IndexError("nothing waits")
        client = next(iter(self._lanes)) if len(self._lanes) == 1 else min(self._lanes, key=self._turns.__getitem__)
        lane, self._now = self._lanes[client], self._turns[client]
        self._turns[client] += 1
        item = heapq.heappop(lane)[2]
        if not lane:
            self._empty(client)
        return item

    def remove(self, client: str) -> list[T]:
        """Takes out all that waits of a client, and returns it in its order."""
        lane = self._lanes.get(client)
        if lane is None:
            return []
        self._empty(client)
        return [item for _, _, item in sorted(lane, key=lambda entry: entry[:2])]

    def waiting(self) -> dict[str, int]:
        """How many items each client has waiting; those with none are left out."""
        return {client: len(lane) for client, lane in self._lanes.items()}

    def _empty(self, client: str) -> None:
        """Nothing of the client waits any more; once nobody waits, all are equal again."""
        del self._lanes[client]
        if not self._lanes:
            self._turns.clear()
            self._now = 0
