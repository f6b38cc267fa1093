"""A job's side of a shared pool: `RewardPool` as far as a job needs it, without a reward actor of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ray
from ray.exceptions import RayActorError, RayError

from configs import UserError
from configs.schema import Config
from envs.types import Failed, RewardQuery, Sample, Scored
from reward_actors.pool.asking import asked
from reward_actors.pool.memo import Memo
from reward_actors.pool.pool import GONE, RewardPool
from reward_actors.pool.shared.finding import Finder
from reward_actors.pool.shared.told import Told
from reward_actors.pool.stats import PoolStats

HEAR_SECONDS = 1.0
"""How often it is told that the job lives, and tells how it is."""
LEAVE_SECONDS = 10.0
CONTENTS_KEPT = 256


def open_pool(config: Config) -> RewardPool | SharedPool:
    """The pool of a job: its own, or the one that `reward.pool` names. `start` it."""
    return SharedPool(config) if config.reward.pool else RewardPool(config)


class SharedPool:
    """Asks the pool `reward.pool`, beside other jobs. Of `stats`, the counts are of this job and the rest of the pool.

    A pool that ends is waited for, `FIND_SECONDS` long, and asked again: what it was asked is a pure function of the
    query, so nothing is lost but time. If it does not come back, `score` raises TimeoutError, which `max_failures`
    answers with a new start.
    """

    def __init__(self, config: Config):
        self._name, self._finder = config.reward.pool, Finder(config)
        self._client = f"{config.name or Path(config.out).name or 'default'}-{uuid.uuid4().hex[:6]}"
        self._host, self._closed = None, False
        self._finding = asyncio.Lock()
        self._told = Told()
        self._contents = Memo(CONTENTS_KEPT)
        self._hearing: asyncio.Task | None = None

    async def start(self) -> None:
        """Finds the pool and compares settings.

        Raises:
            UserError: no such pool within `FIND_SECONDS`, or one whose scores are not those of this job.
        """
        try:
            self._host = await self._finder.find()
        except TimeoutError as error:
            raise UserError(str(error)) from None
        self._told.hear(await self._host.hear.remote(self._client))
        self._hearing = asyncio.create_task(self._hear())

    async def score(self, queries: Sequence[RewardQuery], priority: int = 0) -> list[Scored | Failed]:
        """As `RewardPool.score`; equal queries of other jobs, about the same picture, are asked once too.

        Raises:
            UserError: the pool's scorer cannot judge these samples, it has no actor left, or it came back with other
                settings.
            TimeoutError: the pool has ended and did not come back.
        """
        if not queries:
            return []
        asked_for = [replace(query, content=await self._content(query.sample)) for query in queries]
        answers = await self._ask(asked_for, priority)
        # A job that was stopped for a while is taken for dead by the pool, and asks again.
        while lost := [i for i, answer in enumerate(answers) if answer == Failed(GONE) and not self._closed]:
            for i, answer in zip(lost, await self._ask([asked_for[i] for i in lost], priority), strict=True):
                answers[i] = answer
        return answers

    def stats(self) -> PoolStats:
        """As last told: at most about `HEAR_SECONDS` old, the counts as of the last answer."""
        return self._told.stats()

    def processes(self) -> dict[str, int]:
        """None: the actors are those of another job."""
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
        if self._hearing:
            self._hearing.cancel()
        if self._host:
            with suppress(RayError, TimeoutError):
                await asyncio.wait_for(self._host.leave.remote(self._client), LEAVE_SECONDS)

    def _elsewhere(self, count: str) -> UserError:
        return UserError(
            f"the actors are those of the pool {self._name}: `duvlm scale rewards {count} --run {self._name}/rewards`"
        )

    async def _ask(self, queries: Sequence[RewardQuery], priority: int) -> list[Scored | Failed]:
        """The answers of the pool, or of the one that comes in its place."""
        while True:
            host = self._host
            try:
                scores = await asked(host.score.remote(self._client, queries, priority))
            except RayActorError:
                await self._find_again(host)
            else:
                self._told.count(scores.account, scores.counts)
                return list(scores.answers)

    async def _hear(self) -> None:
        while True:
            await asyncio.sleep(HEAR_SECONDS)
            with suppress(RayError):  # `score` answers the pool's end
                host = self._host
                stats = await host.hear.remote(self._client)
                if host is self._host:
                    self._told.hear(stats)

    async def _find_again(self, lost) -> None:
        """Another actor in place of `lost`; all that wait look for it together."""
        async with self._finding:
            if self._host is lost:
                self._host = await self._finder.find()
                self._told.change()

    async def _content(self, sample: Sample | ray.ObjectRef) -> str:
        """`Sample.content`; those of a group share one reference, and are read once."""
        if not isinstance(sample, ray.ObjectRef):
            return sample.content()
        if (content := self._contents.get(sample.hex())) is None:
            content = (await sample).content()
            self._contents.put(sample.hex(), content)
        return content
