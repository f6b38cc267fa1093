"""The actors of a pool as they come and go: which of them take work, and new ones for those that die."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from ray.exceptions import RayError

from configs import UserError
from configs.cluster.background import Background
from reward_actors.pool.batches import RayActors
from reward_actors.pool.queue import now
from reward_actors.pool.replica import LoadIndex, Replica, ReplicaState
from reward_actors.pool.stats import IDLE, Report

MAX_RESTARTS = 20
"""Of one replica, without a restoration between them; more is no accident."""
LEFT = "left"
"""The name under which the replicas that are gone are counted, all together."""
BACK_OFF_SECONDS = (0.1, 10.0)
"""The pause before a restart, doubled up to the second number while no restoration succeeds."""


class ReplicaSet:
    """Keeps as many replicas as are wanted: starts them, starts actors anew in place of dead ones, lets them drain.

    Attributes:
        replicas: all that are not STOPPED.
        loads: which of them may be given more.
        restarts, restart_seconds: actors started anew, and how long their replicas had none.
        last_death: why the last actor died, in one line.
        fingerprint: what shapes the scores, as the first actor said; empty before. Actors with another are refused.
    """

    def __init__(
        self,
        actors: RayActors,
        background: Background,
        on_ready: Callable[[Replica], None],
        on_lost: Callable[[], None],
    ):
        """
        Args:
            background: where restarts run.
            on_ready: called with a replica whose actor has become ready.
            on_lost: called when a replica has been given up.
        """
        self._actors, self._background = actors, background
        self._on_ready, self._on_lost = on_ready, on_lost
        self.replicas: list[Replica] = []
        self.loads = LoadIndex()
        self.restarts, self.restart_seconds = 0, 0.0
        self.last_death = self.fingerprint = ""
        self._left = IDLE
        self._names = itertools.count()

    async def resize(self, count: int) -> None:
        """Grows or shrinks while it works; replicas that go finish what they hold. See `RewardPool.resize`."""
        staying = [replica for replica in self.replicas if replica.state is not ReplicaState.DRAINING]
        for replica in staying[count:]:
            replica.state = ReplicaState.DRAINING
            self.drain(replica)
        new = [Replica(f"reward-{next(self._names)}", self.loads) for _ in range(count - len(staying))]
        self.replicas += new
        ends = await asyncio.gather(*(self._add(replica) for replica in new), return_exceptions=True)
        for error in filter(None, ends):
            raise error

    @property
    def size(self) -> int:
        """The number of replicas wanted: all but those that leave."""
        return sum(replica.state is not ReplicaState.DRAINING for replica in self.replicas)

    def capacity(self) -> int:
        """Returns how many more replicas there is room for."""
        return self._actors.capacity()

    def reports(self) -> dict[str, Report]:
        """Returns what each replica has done, by name; those that are gone under `LEFT`."""
        reports = {replica.name: replica.report for replica in self.replicas}
        return reports | ({LEFT: self._left} if self._left.occupied else {})

    def drain(self, replica: Replica) -> None:
        """Stops a replica that is DRAINING, if it holds nothing any more."""
        if replica.state is ReplicaState.DRAINING and not replica.in_flight:
            self._stop(replica)

    def on_death(self, replica: Replica, reason: str) -> None:
        """Notes that the actor of a replica is dead, and starts another in its place."""
        self.last_death = reason
        if replica.state is ReplicaState.DRAINING:
            self._stop(replica)
            return
        print(f"reward actor {replica.name} is started anew: {reason}", flush=True)
        replica.kill()
        replica.state = ReplicaState.STARTING
        self._background.spawn(self._restart(replica))

    def close(self) -> None:
        """Ends all actors at once, whatever they hold."""
        for replica in list(self.replicas):
            self._stop(replica)

    async def _add(self, replica: Replica) -> None:
        try:
            await self._start(replica)
        except BaseException:  # cancelled too: nobody would wait for it any more
            self._stop(replica)
            raise

    async def _start(self, replica: Replica) -> None:
        await replica.open(self._actors.create(replica.name))
        if replica.state is ReplicaState.STOPPED:  # the pool shrank meanwhile
            replica.kill()
            return
        if self.fingerprint not in ("", replica.fingerprint):
            raise other_fingerprint_error(f"reward actor {replica.name}")
        self.fingerprint, replica.state = replica.fingerprint, ReplicaState.READY
        self._on_ready(replica)

    async def _restart(self, replica: Replica) -> None:
        """Starts an actor after a pause that grows while this fails; gives the replica up after `MAX_RESTARTS`."""
        (first, longest), began = BACK_OFF_SECONDS, now()
        while replica.state is ReplicaState.STARTING:
            if replica.failures_in_row >= MAX_RESTARTS:
                starts = f"{MAX_RESTARTS} starts without a restoration"
                print(f"reward actor {replica.name} is given up after {starts}: {self.last_death}", flush=True)
                self._stop(replica)
                self._on_lost()
                return
            await asyncio.sleep(min(longest, first * 2**replica.failures_in_row))
            replica.failures_in_row += 1
            self.restarts += 1
            try:
                await self._start(replica)
                self.restart_seconds += now() - began
            except (RayError, UserError) as error:
                self.last_death = str(error)
                replica.kill()

    def _stop(self, replica: Replica) -> None:
        if replica.state is not ReplicaState.STOPPED:
            self._left += replica.report
            replica.kill()
            replica.state = ReplicaState.STOPPED
            self.replicas.remove(replica)


def other_fingerprint_error(who: str) -> UserError:
    """Builds the error for an actor or a pool whose scores would not be those a job has had until now."""
    return UserError(
        f"{who} loaded another prior, or other weights of a scorer, than those before: a file changed during the job. "
        "Put the old one back, or start the job anew, so that one job has one reward"
    )
