"""The heart of a pool: which actor takes what waits, and what comes of a query whose actor dies."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence

from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.cluster.background import Background
from configs.cluster.supervision import describe_failure
from envs.types import Failed, Scored
from reward_actors.pool.batches import Answer, RayActor, RayActors
from reward_actors.pool.queue import MAX_ATTEMPTS, PullQueue, QueryState, QueuedQuery, now, state_after_failure
from reward_actors.pool.replica import SERVING, LoadIndex, Replica, ReplicaState
from reward_actors.pool.replicas import ReplicaSet

NO_ACTOR_LEFT = (
    "no reward actor is left, all were given up. The last: {}. Put that right and run the same command again"
)


class Dispatcher:
    """Takes queries from its queues to actors, and ends each with `Scored`, `Failed` or a UserError.

    Everything that happens (a query comes, an actor answers, dies or starts, the pool is resized) ends in `dispatch`.

    Attributes:
        queue: what waits for an actor of any kind.
        suspects: what waits to be tried alone.
    """

    def __init__(self, actors: RayActors, timeout: float):
        """
        Args:
            actors: makes the actors.
            timeout: seconds without a step after which an actor counts as dead.
        """
        self.queue: PullQueue[QueuedQuery] = PullQueue()
        self.suspects: PullQueue[QueuedQuery] = PullQueue()
        self._timeout, self._background = timeout, Background()
        self.replicas = ReplicaSet(actors, self._background, self._listen_to, self.dispatch)
        self._serials, self._scheduled, self._reserved = itertools.count(), False, 0

    def put(self, item: QueuedQuery) -> None:
        """Queues a query. What comes in one turn of the event loop is assigned together."""
        self._push(item)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.dispatch)

    def waiting(self) -> list[QueuedQuery]:
        """Returns all that waits, in no order."""
        return [*self.queue, *self.suspects]

    def remove(self, client: str) -> list[QueuedQuery]:
        """Takes out all that waits of a client, and returns it."""
        return self.queue.remove(client) + self.suspects.remove(client)

    async def close(self) -> None:
        """Ends all actors at once, whatever they hold."""
        await self._background.cancel()
        self.replicas.close()

    def dispatch(self) -> None:
        """Sends waiting queries to actors that have room; with a thousand of them as quickly as with one."""
        self._scheduled, replicas = False, self.replicas.replicas
        if not replicas:
            error = NO_ACTOR_LEFT.format(self.replicas.last_death)
            for item in self.waiting():
                item.refuse(UserError(error))
            self.queue, self.suspects = PullQueue(), PullQueue()
        if self.suspects or self._reserved:
            self._reserved = reserve(replicas, len(self.suspects), bool(self.queue))
            for replica in replicas:
                if replica.state is ReplicaState.RESERVED and not replica.in_flight:
                    serial, item = next(self._serials), self.suspects.pop()
                    replica.take(serial, item)
                    self._send(replica, {serial: item})
        for replica, batch in assign(self.replicas.loads, self.queue, self._serials).items():
            self._send(replica, batch)

    def _send(self, replica: Replica, batch: dict[int, QueuedQuery]) -> None:
        self._background.spawn(self._deliver(replica, replica.actor, batch))

    async def _deliver(self, replica: Replica, actor: RayActor, batch: dict[int, QueuedQuery]) -> None:
        """Hands queries to an actor. For a suspect it must show first that it lives, or its death would count."""
        probing = [item for item in batch.values() if item.state is QueryState.PROBING]
        try:
            if probing:
                await actor.steps()
                if replica.actor is not actor:
                    return
            for item in probing:
                item.isolate()
            await actor.put([(serial, item.query) for serial, item in batch.items()])
        except RayActorError:  # `_listen` hears of it too, and answers
            return
        except (RayError, TypeError) as error:  # it cannot be packed here, or unpacked there
            reason = str(error).strip().splitlines()[-1]
            for item in replica.release(batch):
                self._retry_or_fail(item, reason, actor_died=False)
            self._after_release(replica)

    def _listen_to(self, replica: Replica) -> None:
        self._background.spawn(self._listen(replica, replica.actor))
        self.dispatch()

    async def _listen(self, replica: Replica, actor: RayActor) -> None:
        """Ends the queries of an actor as they are done, as long as it lives; after its death all that it held."""
        try:
            while replica.actor is actor:
                finished = await replica.finished(self._timeout)
                for answer in finished.answers:
                    for item in replica.release([answer.serial]):
                        self._end(item, answer, replica.fingerprint)
                self._after_release(replica)
        except (RayError, TimeoutError) as error:
            if replica.actor is not actor:  # it was sent away
                return
            for item in replica.release(list(replica.in_flight)):
                self._retry_or_fail(item, f"it ended {MAX_ATTEMPTS} actors: {error}", actor_died=True)
            self.replicas.on_death(replica, describe_failure(error))
            self.dispatch()

    def _end(self, item: QueuedQuery, answer: Answer, fingerprint: str) -> None:
        result = answer.result
        if isinstance(result, UserError):
            item.refuse(result)
        elif isinstance(result, Scored) or answer.final:
            item.answer(result, fingerprint)
        else:
            self._retry_or_fail(item, result.reason, actor_died=False)

    def _after_release(self, replica: Replica) -> None:
        if replica.state is ReplicaState.DRAINING:
            self.replicas.drain(replica)
        self.dispatch()

    def _retry_or_fail(self, item: QueuedQuery, reason: str, actor_died: bool) -> None:
        if item.state is QueryState.DONE:  # nobody waits for it any more
            return
        state, item.attempts = state_after_failure(item.state, item.attempts, actor_died)
        # the picture of another client may be had where this one's is not
        if state is QueryState.DONE and not item.pass_on():
            item.answer(Failed(reason))
        else:
            item.state, item.since = QueryState.SUSPECT, now()
            self._push(item)

    def _push(self, item: QueuedQuery) -> None:
        queue = self.suspects if item.state is QueryState.SUSPECT else self.queue
        queue.push(item, item.priority, item.client)


def reserve(replicas: Sequence[Replica], suspects: int, others_wait: bool) -> int:
    """Reserves a replica for each suspect that waits, those with least to do; the others take work of any kind.

    Where other work waits too, one of several replicas is left to it. Returns how many are RESERVED now.
    """
    serving = [replica for replica in replicas if replica.state in SERVING]
    free = [replica for replica in serving if replica.state is not ReplicaState.ISOLATING]
    at_most = max(1, len(serving) - others_wait) - (len(serving) - len(free))
    count = max(0, min(suspects, at_most, len(free)))
    # whoever is reserved already has less and less to do
    free.sort(key=lambda replica: (len(replica.in_flight), replica.state is not ReplicaState.RESERVED))
    for place, replica in enumerate(free):
        replica.state = ReplicaState.RESERVED if place < count else ReplicaState.READY
    return count


def assign(
    loads: LoadIndex, queue: PullQueue[QueuedQuery], serials: Iterator[int]
) -> dict[Replica, dict[int, QueuedQuery]]:
    """Takes queries out of the queue, one after the other, each into the replica with the least to do.

    While more queries wait than there are rows, each replica is given a few beyond its rows; not at the end, when
    another would be idle for it. Returns what each replica has been given, by serial number.
    """
    batches: dict[Replica, dict[int, QueuedQuery]] = {}
    while queue and (replica := loads.least_loaded(ahead=len(queue) > loads.rows)):
        serial, item = next(serials), queue.pop()
        replica.take(serial, item)
        batches.setdefault(replica, {})[serial] = item
    return batches
