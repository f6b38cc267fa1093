"""Keeps one place in a pool: an actor, others in its stead when it dies; and which of such places may take more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum, auto

from envs.types import Scored
from reward_actors.pool.batches import Finished, RayActor
from reward_actors.pool.queue import QueryState, QueuedQuery, now
from reward_actors.pool.stats import IDLE, Report


class ReplicaState(Enum):
    """Says what a replica is doing.

    STARTING -> READY, when its actor has loaded its prior. READY -> RESERVED -> ISOLATING -> READY, for a suspect.
    Each -> STARTING, when its actor dies. Each -> DRAINING -> STOPPED, when the pool shrinks.
    """

    STARTING = auto()  # no actor takes work yet: the first is loading, or another in place of one that died
    READY = auto()  # takes queries of any kind, as far as it has room
    RESERVED = auto()  # takes nothing more; once it is empty it gets one suspect
    ISOLATING = auto()  # holds one suspect, and nothing else
    DRAINING = auto()  # finishes what it holds
    STOPPED = auto()  # its actor is gone, and no other will come


SERVING = (ReplicaState.READY, ReplicaState.RESERVED, ReplicaState.ISOLATING)


class LoadIndex:
    """Sorts replicas by how much they hold: the one with the least to do is found without looking at all of them.

    rows: of all READY replicas together.
    """

    def __init__(self):
        self._by_load: dict[tuple[int, bool], dict[Replica, None]] = {}  # (held, whether its rows are full): replicas
        self._noted: dict[Replica, tuple[tuple[int, bool] | None, int]] = {}
        self.rows = 0

    def note(self, replica: Replica) -> None:
        """Notes how much a replica may take now: what it holds, or its state, has changed."""
        load, rows = len(replica.in_flight), replica.rows if replica.state is ReplicaState.READY else 0
        # a few beyond its rows, so that the next one enters where one leaves, without a call in between
        most = rows + max(1, rows // 4) if rows else 0
        now_at = (load, load >= rows) if load < most else None
        was_at, had = self._noted.pop(replica, (None, 0))
        self.rows += rows - had
        if rows:
            self._noted[replica] = now_at, rows
        if was_at == now_at:
            return
        if was_at is not None:
            del self._by_load[was_at][replica]
            if not self._by_load[was_at]:
                del self._by_load[was_at]
        if now_at is not None:
            self._by_load.setdefault(now_at, {})[replica] = None

    def least_loaded(self, ahead: bool) -> Replica | None:
        """Returns the replica with the least to do of those that may take more; of equal ones that which waits longest.

        ahead: whether each may take a few queries beyond its rows.
        """
        first = min((place for place in self._by_load if ahead or not place[1]), default=None)
        return None if first is None else next(iter(self._by_load[first]))


class Replica:
    """Holds an actor, another one when it dies, the queries that are in it by serial number, and what it has done.

    Attributes:
        rows: how many queries it restores together.
        failures_in_row: starts since its last restoration.
    """

    def __init__(self, name: str, loads: LoadIndex):
        """loads: notes every change."""
        self.name, self._state, self._loads = name, ReplicaState.STARTING, loads
        self.actor: RayActor | None = None
        self.fingerprint, self.pid, self.rows = "", 0, 0
        self.in_flight: dict[int, QueuedQuery] = {}
        self.failures_in_row = self._steps = 0
        self._past, self._present = IDLE, IDLE  # reports: of actors before, of this one
        self._occupied = self._since = self._moved = 0.0

    @property
    def state(self) -> ReplicaState:
        """What it is doing; to set it, to the same too, is noted among the loads."""
        return self._state

    @state.setter
    def state(self, state: ReplicaState) -> None:
        self._state = state
        self._loads.note(self)

    async def open(self, actor: RayActor) -> None:
        """Waits until a new actor has loaded its prior. Raises what `RayActor.open` does; `kill` it then."""
        self.actor = actor
        ready = await actor.open()
        self.fingerprint, self.pid, self.rows, self._steps = ready.fingerprint, ready.pid, ready.rows, 0

    def kill(self) -> None:
        """Ends the actor, if there is one; what it has done stays counted."""
        if self.actor is not None:
            self.actor.kill()
        self.actor, self._past, self._present = None, self._past + self._present, IDLE

    def take(self, serial: int, item: QueuedQuery) -> None:
        """Notes a query on its way to the actor."""
        if not self.in_flight:
            self._since = self._moved = now()
        item.assign()
        self.in_flight[serial] = item
        self.state = ReplicaState.ISOLATING if item.state is QueryState.PROBING else self.state

    def release(self, serials: Iterable[int]) -> list[QueuedQuery]:
        """Notes that queries have left the actor, however they ended, and returns those that it held."""
        items = [self.in_flight.pop(serial) for serial in serials if serial in self.in_flight]
        empty = items and not self.in_flight
        if empty:
            self._occupied += now() - self._since
        self.state = ReplicaState.READY if empty and self.state in SERVING else self.state
        return items

    async def finished(self, timeout: float) -> Finished:
        """Waits for the next answers of the present actor, as long as it holds nothing or goes on stepping.

        Its steps are looked at twice in `timeout` seconds: it hangs where the second look finds no more of them, or
        the first is not answered by then.

        Raises:
            TimeoutError: it held something and took no step for `timeout` seconds.
            ray.exceptions.RayActorError: it is dead.
        """
        actor, half = self.actor, timeout / 2
        answers = asyncio.ensure_future(actor.take())
        try:
            while True:
                done, _ = await asyncio.wait([answers], timeout=half - self._idle_seconds % half)
                if done:
                    return self._note(answers.result())
                if self.in_flight:
                    async with asyncio.timeout(max(half, timeout - self._idle_seconds)):
                        steps = await actor.steps()
                    if steps != self._steps:
                        self._steps, self._moved = steps, now()
                if self._idle_seconds >= timeout:
                    raise TimeoutError(f"no step in {timeout:g} s")
        finally:
            answers.cancel()

    @property
    def report(self) -> Report:
        """What its actors have done, and the seconds in which they held a query."""
        occupied = self._occupied + (now() - self._since if self.in_flight else 0.0)
        return replace(self._past + self._present, occupied=occupied)

    @property
    def _idle_seconds(self) -> float:
        """How long it has held something without a step that we know of; 0 while it holds nothing."""
        return now() - self._moved if self.in_flight else 0.0

    def _note(self, finished: Finished) -> Finished:
        if any(isinstance(answer.result, Scored) for answer in finished.answers):
            self.failures_in_row = 0
        self._present, self._steps, self._moved = finished.report, finished.steps, now()
        return finished
