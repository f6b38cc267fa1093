"""The pool of reward actors: nothing is asked twice, nothing lost when one dies, and it is as large as the load needs.

A completion goes through `judge` (what the gate turns away is never queued), `score` (what is known, or under way, is
not asked again), a bounded pull queue that is fair to clients, the dispatcher (to an actor with room), and a worker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from cachetools import LRUCache

from configs import UserError
from configs.schema import Config
from envs.types import Completion, Failed, Gated, Prompt, RewardQuery, Scored
from reward_actors.pool.autoscaler import Autoscaler
from reward_actors.pool.autoscaling_policy import Limits
from reward_actors.pool.batches import RayActors
from reward_actors.pool.dispatcher import Dispatcher
from reward_actors.pool.lifetime import Lifetime
from reward_actors.pool.queue import ClientQuota, QueuedQuery, now
from reward_actors.pool.replica import SERVING, ReplicaState
from reward_actors.pool.stats import IDLE, Counts, PoolStats
from reward_actors.pool.worker import RewardActor
from reward_actors.scoring.agreement import with_agreement
from reward_actors.scoring.terms import Spec

SCORES_KEPT = 20_000
CLIENT_GONE = "its client is gone"


class Gate(Protocol):
    """Decides what becomes of a completion before anything is restored; every environment of `envs` does."""

    def judge(self, prompt: Prompt, completion: Completion) -> Gated | RewardQuery | Scored: ...


class RewardPool(Lifetime):
    """Scores completions on reward actors. Lives in one event loop of the driver.

    `async with RewardPool(config) as pool` starts it, with Ray, and closes it; `start` wants Ray to be initialised.
    """

    def __init__(
        self,
        config: Config,
        actor_class: type = RewardActor,
        memo: int = SCORES_KEPT,
        *,
        environment: Gate | None = None,
        actors: RayActors | None = None,
    ):
        """
        Args:
            actor_class: what the actors are, for measuring the pool without restorations.
            memo: scores remembered, at most.
            environment: the gate of `judge`, which needs one.
            actors: makes the actors, as `RayActors` of `actor_class` does, which None stands for.
        """
        self._settings, self._environment = config.reward, environment
        self._memo = LRUCache(memo) if memo else None
        actors = actors or RayActors(actor_class, config.reward, config.world.size)
        self._dispatcher = Dispatcher(actors, config.reward.timeout)
        self._replicas = self._dispatcher.replicas
        self._pending: dict[tuple, QueuedQuery] = {}
        self._quotas: dict[str, ClientQuota] = {}
        self._left = Counts()  # of clients that are gone
        self._autoscaler = Autoscaler(self._replicas, self.stats)
        self._closed = False

    async def start(self) -> None:
        """Creates the actors and waits until each has loaded its prior; autoscales if `reward.max_actors` says so.

        Raises:
            UserError: the prior cannot be loaded, or the cluster cannot hold the actors.
        """
        fewest, most = self._settings.actors, self._settings.max_actors
        if most and most < fewest:
            raise UserError(f"reward.max_actors={most}: expected 0 or at least reward.actors={fewest}")
        await self._replicas.resize(fewest)
        if most:
            self.autoscale(fewest, most)

    async def judge(
        self, prompt: Prompt, completions: Sequence[Completion | str], priority: int = 0
    ) -> list[Scored | Gated | Failed]:
        """Rewards the completions of one prompt, in their order: the gate first, then what passes is restored.

        Args:
            prompt: its `sample` may be a reference into the object store.
            completions: or their texts alone.
            priority: as in `score`.

        Returns:
            For each `Scored` (the reward and its terms), `Gated` (the penalty and why) or `Failed` (why; no number).

        Raises:
            UserError: as in `score`.
        """
        return await judge_group(self._environment, self._settings.scorer, self.score, prompt, completions, priority)

    async def score(self, queries: Sequence[RewardQuery], priority: int = 0, client: str = "") -> list[Scored | Failed]:
        """Scores queries, in their order; equal (sample_id, degradation, content) are asked once.

        Args:
            priority: lower goes first; the number of the step or group makes the oldest go first.
            client: who asks; clients take turns (`FairQueue`). After `leave` what it waits for comes back `Failed`.

        Raises:
            UserError: the configured scorer cannot judge these samples, or no actor is left.
        """
        quota = self.quota(client)
        async with quota.asking:  # one call after the other gets its slots, so that older steps get theirs first
            results = [await self._ask(query, priority, quota) for query in queries]
        if results:
            await asyncio.wait(results)  # cancels none of them, others may wait for the same
        return [result.result() for result in results]

    async def resize(self, actors: int) -> None:
        """Sets the number of actors while they work, and ends autoscaling.

        Actors that go finish what they hold, nothing is lost. Returns when those that come are ready.

        Raises:
            UserError: the cluster cannot hold them, or their prior cannot be loaded; those that came stay.
        """
        if actors < 1:
            raise ValueError(f"a pool needs at least one actor, not {actors}")
        await self._autoscaler.stop()
        await self._replicas.resize(actors)

    def autoscale(self, fewest: int, most: int, patience: float = 5.0, calm: float = 30.0) -> None:
        """Lets the pool have between `fewest` and `most` actors from now on, as the load needs.

        patience, calm: seconds, see `Limits`. What it does is in `stats().scalings`.
        """
        if not 1 <= fewest <= most:
            raise ValueError(f"autoscaling needs 1 <= fewest <= most, not {fewest} and {most}")
        self._autoscaler.start(Limits(fewest, most, patience=patience, calm=calm))

    def stats(self) -> PoolStats:
        """Takes a snapshot; cheap, asks nobody."""
        time, replicas = now(), self._replicas.replicas
        reports, waiting = self._replicas.reports(), self._dispatcher.waiting()
        total = sum(reports.values(), IDLE)
        clients = {quota.client: quota.counts for quota in self._quotas.values()}
        return PoolStats(
            **vars(sum(clients.values(), self._left)),
            restarts=self._replicas.restarts,
            restarting=self._replicas.restart_seconds,
            actors=sum(replica.state in SERVING for replica in replicas),
            queued=len(waiting),
            in_flight=sum(len(replica.in_flight) for replica in replicas),
            queue_age=max((time - item.since for item in waiting), default=0.0),
            occupied=total.occupied,
            image_steps=total.image_steps,
            denoiser_seconds=total.denoiser,
            peak_seconds=total.peak,
            busy={name: report.busy for name, report in reports.items()},
            scalings=tuple(self._autoscaler.scalings),
            clients=clients,
            waiting=dict(Counter(item.client for item in waiting)),
        )

    async def profile(self, folder: str) -> None:
        """Begins traces of the actors that serve, where `folder` is empty; else ends them and writes them there."""
        actors = [replica.actor for replica in self._replicas.replicas if replica.state in SERVING]
        await asyncio.gather(*(actor.profile(folder) for actor in actors), return_exceptions=True)  # some may die

    def processes(self) -> dict[str, int]:
        """Returns the process id of each live actor, by name."""
        live = (*SERVING, ReplicaState.DRAINING)
        return {replica.name: replica.pid for replica in self._replicas.replicas if replica.state in live}

    async def close(self) -> None:
        """Ends all actors. Queries still under way come back `Failed`."""
        self._closed = True
        await self._autoscaler.stop()
        await self._dispatcher.close()
        for item in list(self._pending.values()):
            item.answer(Failed("the reward pool was closed"))

    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a score, weights included; empty before the first actor is ready."""
        return self._replicas.fingerprint

    def quota(self, client: str) -> ClientQuota:
        """Returns the quota of a client, the same from its first query until it leaves."""
        if (quota := self._quotas.get(client)) is None:
            quota = self._quotas[client] = ClientQuota(client)
        return quota

    def leave(self, client: str) -> None:
        """Drops what `client` waits for: it leaves the queue, unless another client asks the same.

        What an actor holds of it is finished there, for nobody. If the client asks again, it is a new one.
        """
        quota = self.quota(client)
        quota.closed, self._left = True, self._left + quota.counts
        del self._quotas[client]
        queued = self._dispatcher.remove(client)
        for item in list(self._pending.values()):
            item.others.pop(client, None)
            if item.client == client and not item.pass_on():
                del self._pending[item.query.key]
                item.answer(Failed(CLIENT_GONE))
        for item in queued:
            if not item.result.done():
                self._dispatcher.put(item)

    # asking

    async def _ask(self, query: RewardQuery, priority: int, quota: ClientQuota) -> asyncio.Future:
        """Returns the result to come of one query: remembered, under way already, or new work."""
        if self._closed:
            raise RuntimeError("the reward pool is closed")
        quota.count("asked")
        if (known := self._known(query, priority, quota)) is not None:
            return known
        await quota.slots.acquire()
        if (known := self._known(query, priority, quota)) is not None:  # asked by somebody else while we waited
            quota.slots.release()
            return known
        result = asyncio.get_running_loop().create_future()
        item = QueuedQuery(query, result, priority, now(), quota.client)
        result.add_done_callback(lambda _: self._settle(item, quota))
        self._pending[query.key] = item
        self._dispatcher.put(item)
        return result

    def _known(self, query: RewardQuery, priority: int, quota: ClientQuota) -> asyncio.Future | None:
        if quota.closed:
            return _answered(Failed(CLIENT_GONE))
        if (item := self._pending.get(query.key)) is not None:
            quota.count("shared")
            if item.client != quota.client:
                item.others[quota.client] = QueuedQuery(query, item.result, priority, client=quota.client)
            return item.result
        scored = self._memo.get((*query.key, self.fingerprint)) if self._memo is not None else None
        if scored is None:
            return None
        quota.count("memo_hits")
        return _answered(replace(scored, cached=True))

    def _settle(self, item: QueuedQuery, quota: ClientQuota) -> None:
        """quota: of the client that brought it, whose slot it took; it may be another's by now."""
        quota.slots.release()
        if self._pending.get(item.query.key) is item:
            del self._pending[item.query.key]
        if item.result.exception() is not None:
            return
        answer = item.result.result()
        if (present := self._quotas.get(item.client)) is not None:
            present.count("scored" if isinstance(answer, Scored) else "failed")
        if isinstance(answer, Scored) and answer.picture is None and self._memo is not None:  # pictures are too large
            self._memo[(*item.query.key, item.fingerprint)] = answer


async def judge_group(
    environment: Gate | None,
    scorer: Spec,
    score: Callable[[Sequence[RewardQuery], int], Awaitable[list[Scored | Failed]]],
    prompt: Prompt,
    completions: Sequence[Completion | str],
    priority: int,
) -> list[Scored | Gated | Failed]:
    """Implements `RewardPool.judge` for any pool, whose `score` is given, with the term `agreement` of a group."""
    if environment is None:
        raise ValueError("judge needs the gate of an environment: make the pool with environment=...")
    read = [Completion(each, (), ()) if isinstance(each, str) else each for each in completions]
    verdicts: list[Any] = [environment.judge(prompt, completion) for completion in read]
    queries = {index: verdict for index, verdict in enumerate(verdicts) if isinstance(verdict, RewardQuery)}
    scores = await score(list(queries.values()), priority)
    scores = with_agreement(scorer, [query.degradation for query in queries.values()], scores)
    for index, result in zip(queries, scores, strict=True):
        verdicts[index] = result
    return verdicts


def _answered(answer: Scored | Failed) -> asyncio.Future:
    future = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future
