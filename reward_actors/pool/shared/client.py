"""A job's side of a shared pool: `RewardPool` as far as a job needs it, without a reward actor of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ray
from cachetools import LRUCache
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.schema import Config
from envs.types import Completion, Failed, Gated, Prompt, RewardQuery, Sample, Scored
from reward_actors.pool.batches import unwrap_user_error
from reward_actors.pool.lifetime import Lifetime
from reward_actors.pool.pool import CLIENT_GONE, Gate, RewardPool, judge_group
from reward_actors.pool.shared.connect import PoolSettings, connect
from reward_actors.pool.stats import Counts, PoolStats

HEARTBEAT_SECONDS = 1.0
"""How often the pool is told that the job lives, and says how it stands."""
LEAVE_SECONDS = 10.0
CONTENTS_KEPT = 256


def open_pool(config: Config, environment: Gate | None = None) -> RewardPool | SharedPool:
    """Makes the pool of a job: its own, or the one that `reward.pool` names. `start` it."""
    return SharedPool(config, environment) if config.reward.pool else RewardPool(config, environment=environment)


class SharedPool(Lifetime):
    """Asks the pool `reward.pool`, beside other jobs. Of `stats`, the counts are of this job and the rest of the pool.

    A pool that ends is waited for, `CONNECT_SECONDS` long, and asked again: what it was asked is a pure function of
    the query, so nothing is lost but time. If it does not come back, `score` raises TimeoutError, which
    `max_failures` answers with a new start.
    """

    def __init__(self, config: Config, environment: Gate | None = None):
        self._config, self._environment = config, environment
        self._name, self._settings = config.reward.pool, PoolSettings.of(config)
        self._client = f"{config.name or Path(config.out).name or 'default'}-{uuid.uuid4().hex[:6]}"
        self._host: ActorHandle | None = None
        self._closed, self._connecting = False, asyncio.Lock()
        self._view, self._contents = PoolView(), LRUCache(CONTENTS_KEPT)
        self._beating: asyncio.Task | None = None

    async def start(self) -> None:
        """Connects to the pool and compares settings.

        Raises:
            UserError: there is no such pool within `CONNECT_SECONDS`, or its scores are not those of this job.
        """
        try:
            self._host, self._settings = await connect(self._name, self._settings)
        except TimeoutError as error:
            raise UserError(str(error)) from None
        self._view.update(await self._host.heartbeat.remote(self._client))
        self._beating = asyncio.create_task(self._beat())

    async def judge(
        self, prompt: Prompt, completions: Sequence[Completion | str], priority: int = 0
    ) -> list[Scored | Gated | Failed]:
        """Rewards the completions of one prompt; see `RewardPool.judge`. The gate is in this process."""
        scorer = self._config.reward.scorer
        return await judge_group(self._environment, scorer, self.score, prompt, completions, priority)

    async def score(self, queries: Sequence[RewardQuery], priority: int = 0) -> list[Scored | Failed]:
        """Scores queries as `RewardPool.score`; equal ones of other jobs, about the same picture, are asked once too.

        Raises:
            UserError: the pool's scorer cannot judge these samples, it has no actor left, or it came back with other
                settings.
            TimeoutError: the pool has ended and did not come back.
        """
        if not queries:
            return []
        queries = [replace(query, content=await self._content(query.sample)) for query in queries]
        answers = await self._ask(queries, priority)
        # A job that was stopped for a while is taken for dead by the pool, and asks again.
        while lost := [i for i, answer in enumerate(answers) if answer == Failed(CLIENT_GONE) and not self._closed]:
            for i, answer in zip(lost, await self._ask([queries[i] for i in lost], priority), strict=True):
                answers[i] = answer
        return answers

    def stats(self) -> PoolStats:
        """Returns what the pool said last: at most about `HEARTBEAT_SECONDS` ago, the counts with the last answer."""
        return self._view.stats()

    def processes(self) -> dict[str, int]:
        """Returns nothing: the actors are those of another job."""
        return {}

    async def resize(self, actors: int) -> None:
        """Raises UserError: only the pool's own job scales it."""
        raise self._elsewhere(str(actors))

    def autoscale(self, fewest: int, most: int) -> None:
        """Raises UserError: only the pool's own job scales it."""
        raise self._elsewhere(f"{fewest}:{most}")

    async def close(self) -> None:
        """Leaves the pool, which goes on without what this job still waits for."""
        self._closed = True
        if self._beating:
            self._beating.cancel()
        if self._host:
            with suppress(RayError, TimeoutError):
                await asyncio.wait_for(self._host.leave.remote(self._client), LEAVE_SECONDS)

    def _elsewhere(self, count: str) -> UserError:
        return UserError(
            f"the actors are those of the pool {self._name}: `duvlm scale rewards {count} --run {self._name}/rewards`"
        )

    async def _ask(self, queries: Sequence[RewardQuery], priority: int) -> list[Scored | Failed]:
        """Returns the answers of the pool, or of the one that comes in its place."""
        while True:
            host = self._host
            try:
                scores = await unwrap_user_error(host.score_for.remote(self._client, queries, priority))
            except RayActorError:
                await self._reconnect(host)
            else:
                self._view.count(scores.quota, scores.counts)
                return list(scores.answers)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with suppress(RayError):  # `score` answers the pool's end
                host = self._host
                stats = await host.heartbeat.remote(self._client)
                if host is self._host:
                    self._view.update(stats)

    async def _reconnect(self, lost: ActorHandle) -> None:
        """Finds another actor in place of `lost`; all that wait look for it together."""
        async with self._connecting:
            if self._host is lost:
                self._host, self._settings = await connect(self._name, self._settings)
                self._view.change_pool()

    async def _content(self, sample: Sample | ray.ObjectRef) -> str:
        """Returns `Sample.content`; those of a group share one reference, and are read once."""
        if not isinstance(sample, ray.ObjectRef):
            return sample.content()
        if (content := self._contents.get(sample.hex())) is None:
            content = self._contents[sample.hex()] = (await sample).content()
        return content


class PoolView:
    """Keeps what a job sees of a pool: `PoolStats` whose counts are the job's own.

    Counts and sums never fall: they go on where another pool takes the place of the first, or where the pool has
    forgotten the job and opens another quota for it.
    """

    def __init__(self):
        self._pool, self._earlier = PoolStats(), PoolStats()
        self._counts: dict[str, Counts] = {}

    def update(self, stats: PoolStats) -> None:
        """Takes in what the present pool says of itself."""
        self._pool = stats

    def change_pool(self) -> None:
        """Notes that another pool speaks from now on."""
        self._earlier, self._pool = self.stats(), PoolStats()

    def count(self, quota: str, counts: Counts) -> None:
        """Takes in what became of the queries under one quota; what comes late changes nothing."""
        known = self._counts.get(quota, Counts())
        self._counts[quota] = max(known, counts, key=lambda each: sum(vars(each).values()))

    def stats(self) -> PoolStats:
        """Returns what is known now."""
        return replace(self._pool.after(self._earlier), **vars(sum(self._counts.values(), Counts())))
