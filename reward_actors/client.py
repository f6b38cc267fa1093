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

from configs import UserError, control
from configs.schema import Config
from envs.samples import Failed, RewardQuery, Sample, Scored
from reward_actors.host import Offer, check_shaping, shaping
from reward_actors.memo import Memo
from reward_actors.pool import RewardPool
from reward_actors.stats import Counts, PoolStats

FIND_SECONDS = 60.0
"""How long a pool may take to appear, at the start and after its end."""
HEAR_SECONDS = 1.0
"""How often it is told that the job lives, and tells how it is."""
LEAVE_SECONDS = 10.0
CONTENTS_KEPT = 256
NONE = Counts()


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
        self._name, self._shaping = config.reward.pool, shaping(config)
        self._client = f"{config.name or Path(config.out).name or 'default'}-{uuid.uuid4().hex[:6]}"
        self._host, self._fingerprint = None, ""
        self._finding = asyncio.Lock()
        self._stats = PoolStats()
        self._contents = Memo(CONTENTS_KEPT)
        self._hearing: asyncio.Task | None = None

    async def start(self) -> None:
        """Finds the pool and compares settings.

        Raises:
            UserError: no such pool within `FIND_SECONDS`, or one whose scores are not those of this job.
        """
        try:
            self._host = await self._find()
        except TimeoutError as error:
            raise UserError(str(error)) from None
        self._stats = await self._host.hear.remote(self._client)
        self._hearing = asyncio.create_task(self._hear())

    async def score(self, queries: Sequence[RewardQuery], priority: int = 0) -> list[Scored | Failed]:
        """As `RewardPool.score`; equal queries of other jobs, about the same picture, are asked once too.

        Raises:
            UserError: the pool's scorer cannot judge these samples, or it came back with other settings.
            TimeoutError: the pool has ended and did not come back.
        """
        if not queries:
            return []
        asked = [replace(query, content=await self._content(query.sample)) for query in queries]
        while True:
            host = self._host
            try:
                scores = await host.score.remote(self._client, asked, priority)
            except RayActorError:
                await self._find_again(host)
            except UserError as error:
                raise UserError(str(error.args[0])) from None  # Ray wraps it in the actor's traceback
            else:
                self._stats = replace(self._stats, **vars(scores.counts))
                return list(scores.answers)

    def stats(self) -> PoolStats:
        """As last told: at most about `HEAR_SECONDS` old, the counts as of the last answer."""
        return self._stats

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
        if self._hearing:
            self._hearing.cancel()
        if self._host:
            with suppress(RayError, TimeoutError):
                await asyncio.wait_for(_awaited(self._host.leave.remote(self._client)), LEAVE_SECONDS)

    def _elsewhere(self, count: str) -> UserError:
        return UserError(
            f"the actors are those of the pool {self._name}: `duvlm scale rewards {count} --run {self._name}/rewards`"
        )

    async def _hear(self) -> None:
        while True:
            await asyncio.sleep(HEAR_SECONDS)
            with suppress(RayError):  # `score` answers the pool's end
                stats = await self._host.hear.remote(self._client)
                self._stats = replace(stats, **vars(stats.clients.get(self._client, NONE)))

    async def _find(self):
        """The pool's actor, once it is open.

        Raises:
            TimeoutError: no such pool within `FIND_SECONDS`.
            UserError: its scores are not those of this job.
        """
        loop, said = asyncio.get_running_loop(), False
        ends = loop.time() + FIND_SECONDS
        while True:
            with suppress(ValueError, RayActorError):  # none of that name, or it ends before it is open
                host = ray.get_actor(control.POOL + self._name, namespace=control.NAMESPACE)
                self._accept(await host.offer.remote())
                return host
            running = ", ".join(control.pools()) or "none"
            if loop.time() > ends:
                raise TimeoutError(
                    f"reward.pool={self._name}: expected the name of a running pool, found {running}; start it with "
                    f"`duvlm run rewards name={self._name}` on the same cluster, or leave reward.pool out"
                )
            if not said:
                print(f"waiting up to {FIND_SECONDS:g} s for the pool {self._name}; running: {running}", flush=True)
            said = True
            await asyncio.sleep(min(1.0, FIND_SECONDS / 4))

    def _accept(self, offer: Offer) -> None:
        """Raises UserError where the scores of a pool are not those of this job, or not those it had until now."""
        check_shaping(self._name, offer.settings, self._shaping)
        if self._fingerprint not in ("", offer.fingerprint):
            raise UserError(
                f"reward.pool={self._name}: the pool that came back loaded another prior than the one before: its file "
                "changed during the job. Put the old one back, or start the job anew, so that one job has one reward"
            )
        self._fingerprint = offer.fingerprint

    async def _find_again(self, lost) -> None:
        """Another actor in place of `lost`; all that wait look for it together."""
        async with self._finding:
            if self._host is lost:
                self._host = await self._find()

    async def _content(self, sample: Sample | ray.ObjectRef) -> str:
        """`Sample.content`; those of a group share one reference, and are read once."""
        if not isinstance(sample, ray.ObjectRef):
            return sample.content()
        if (content := self._contents.get(sample.hex())) is None:
            content = (await sample).content()
            self._contents.put(sample.hex(), content)
        return content


async def _awaited(reference: ray.ObjectRef):
    return await reference
