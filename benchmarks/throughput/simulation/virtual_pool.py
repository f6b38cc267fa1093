"""The reward pool in virtual time.

What decides is the real code: `PullQueue` orders, `rescale` says how many actors there should be. Modelled are the
dispatcher's choice (the actor with the least to do) and the bound of what is queued or under way.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from reward_actors.pool.autoscaler import LOOK_SECONDS
from reward_actors.pool.autoscaling_policy import Limits, Load, Scale, rescale
from reward_actors.pool.queue import SLOTS, PullQueue, QueuedQuery


class Clock:
    """Virtual time, and what is to happen when."""

    def __init__(self):
        self.now, self._heap, self._order = 0.0, [], itertools.count()

    def after(self, seconds: float, do: Callable, *arguments) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), do, arguments))

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self.now, _, do, arguments = heapq.heappop(self._heap)
            do(*arguments)


class VirtualPool:
    """The reward pool: a pull queue, and actors with rows. `score` calls back when a group's last answer is there."""

    def __init__(
        self, clock: Clock, actors: int, most_actors: int, rows: int, draw: Callable[[], float], dispatch: float = 0.0
    ):
        """
        Args:
            most_actors: the autoscaler's limit, 0 without one.
            rows: queries an actor holds.
            draw: seconds of the next query.
            dispatch: seconds of the driver, before a query begins; it does one query after the other.
        """
        self._clock, self._rows, self._autoscaled, self._draw = clock, rows, bool(most_actors), draw
        self._queue, self._outside = PullQueue(), deque()
        self._loads: dict[int, int] = {}
        self._free: list[tuple[int, int]] = []  # (load, actor), some out of date
        self._names, self._draining = itertools.count(), set()
        self._under_way = self._done = self._arrived = self._arrived_before = 0
        self._dispatch_seconds, self._driver_free = dispatch, 0.0  # free: when the driver has handed out what it has
        self._scale, self._limits = Scale(actors), Limits(actors, most_actors or actors)
        self.work = self.row_seconds = 0.0
        self.ages: list[float] = []
        self._grow(actors)
        clock.after(LOOK_SECONDS, self._look)

    @property
    def actors(self) -> int:
        return len(self._loads) - len(self._draining)

    def score(self, queries: int, priority: int, done: Callable[[], None]) -> None:
        if not queries:
            done()
        left = [queries]
        self._arrived += queries
        for _ in range(queries):
            item = QueuedQuery(done, left, priority, since=self._clock.now)  # query and result are not used here
            if self._under_way < SLOTS:
                self._enter(item)
            else:
                self._outside.append(item)
        self._dispatch()

    def _enter(self, item: QueuedQuery) -> None:
        self._under_way += 1
        self._queue.push(item, item.priority)

    def _dispatch(self) -> None:
        """To the actor with the least to do, as the dispatcher does."""
        while self._queue and self._free:
            load, actor = self._free[0]
            if self._loads.get(actor) != load or actor in self._draining:
                heapq.heappop(self._free)
                continue
            self._loads[actor] = load + 1
            if load + 1 < self._rows:
                heapq.heapreplace(self._free, (load + 1, actor))
            else:
                heapq.heappop(self._free)
            seconds = self._draw()
            self.work += seconds
            self._driver_free = max(self._driver_free, self._clock.now) + self._dispatch_seconds
            self._clock.after(self._driver_free - self._clock.now + seconds, self._finished, actor, self._queue.pop())

    def _finished(self, actor: int, item: QueuedQuery) -> None:
        self._under_way -= 1
        self._done += 1
        self._loads[actor] -= 1
        if actor in self._draining:
            self._retire(actor)
        else:
            heapq.heappush(self._free, (self._loads[actor], actor))
        if self._outside:
            self._enter(self._outside.popleft())
        item.result[0] -= 1
        if not item.result[0]:
            item.query()
        self._dispatch()

    def _grow(self, count: int) -> None:
        for actor in itertools.islice(self._names, count):
            self._loads[actor] = 0
            heapq.heappush(self._free, (0, actor))

    def _retire(self, actor: int) -> None:
        if not self._loads[actor]:
            del self._loads[actor]
            self._draining.discard(actor)

    def _look(self) -> None:
        """What the pool's autoscaler does once a second."""
        self.ages.append(self._clock.now - min((item.since for item in self._queue), default=self._clock.now))
        self.row_seconds += self.actors * self._rows * LOOK_SECONDS
        if self._autoscaled:
            self._rescale()
        self._clock.after(LOOK_SECONDS, self._look)

    def _rescale(self) -> None:
        arrivals, self._arrived_before = self._arrived - self._arrived_before, self._arrived
        busy = sum(map(bool, self._loads.values())) / max(1, len(self._loads))
        service = self.work / self._rows / max(1, self._done)
        load = Load(self.ages[-1], busy, arrivals / LOOK_SECONDS, service)
        self._scale = rescale(replace(self._scale, actors=self.actors), load, self._clock.now, self._limits)
        self._grow(self._scale.actors - self.actors)
        for actor in [a for a in self._loads if a not in self._draining][self._scale.actors :]:
            self._draining.add(actor)
            self._retire(actor)
        self._dispatch()
