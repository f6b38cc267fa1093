"""A pool that several jobs share: a Ray actor that they find by its name, and the job that hosts it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import UserError
from configs.schema import Config
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.stats import Counts, PoolStats
from reward_actors.pool.worker import RewardActor

SILENT_SECONDS = 60.0
"""After so long without a word a client counts as dead."""
CALLS = 100_000
"""Calls under way at once, at most: a client has one for every group that waits."""


@dataclass(frozen=True)
class Scores:
    """The answers to one call, in its order, and what became of all queries of its client's account, by its name."""

    answers: tuple[Scored | Failed, ...]
    account: str
    counts: Counts


@dataclass(frozen=True)
class Offer:
    """What shapes the scores of a pool: settings by their keys, and the fingerprint of all that comes of them."""

    settings: dict[str, object]
    fingerprint: str


class PoolHost:
    """Thin around a `RewardPool`: says who asks, and lets those go who are not heard of for a while."""

    def __init__(self, config: Config, silent: float = SILENT_SECONDS, actor_class: type = RewardActor):
        self._config, self._silent, self._actor_class = config, silent, actor_class
        self._heard: dict[str, float] = {}
        self._open = asyncio.Event()

    async def open(self) -> None:
        """Starts the reward actors. Raises UserError, as `RewardPool.start`."""
        self._pool = RewardPool(self._config, self._actor_class)
        await self._pool.start()
        self._watching = asyncio.create_task(self._watch())
        self._open.set()

    async def offer(self) -> Offer:
        """What shapes its scores; waits until it is open."""
        await self._open.wait()
        return Offer(shaping(self._config), self._pool.fingerprint)

    async def score(self, client: str, queries: Sequence[RewardQuery], priority: int) -> Scores:
        """See `RewardPool.score`."""
        self._heard[client] = time.monotonic()
        account = self._pool.account(client)
        answers = await self._pool.score(queries, priority, client)
        return Scores(tuple(answers), account.name, account.counts)

    async def hear(self, client: str) -> PoolStats:
        """A sign of life."""
        self._heard[client] = time.monotonic()
        return self._pool.stats()

    async def leave(self, client: str) -> None:
        """What it has asked for leaves the queue."""
        self._heard.pop(client, None)
        self._pool.leave(client)

    async def stats(self) -> PoolStats:
        return self._pool.stats()

    async def processes(self) -> dict[str, int]:
        return self._pool.processes()

    async def resize(self, actors: int) -> None:
        await self._pool.resize(actors)

    async def autoscale(self, fewest: int, most: int) -> None:
        self._pool.autoscale(fewest, most)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._silent / 4)
            limit = time.monotonic() - self._silent
            for client in [client for client, heard in self._heard.items() if heard < limit]:
                await self.leave(client)


def shaping(config: Config) -> dict[str, object]:
    """The settings by which a score differs, by their keys."""
    reward = config.reward
    prior = str(Path(reward.prior).resolve()) if Path(reward.prior).exists() else reward.prior
    names = ("restorer", "steps", "scorer", "dtype")
    named = {f"reward.{name}": getattr(reward, name) for name in names}
    return {"world.size": config.world.size, "reward.prior": prior, **named}


def check_shaping(pool: str, there: dict[str, object], here: dict[str, object]) -> None:
    """Raises UserError, one for all, where the scores of a pool are not those that a job's settings ask for."""
    wrong = [key for key in there if there[key] != here[key]]
    if wrong:
        said = ", ".join(f"{key}={_written(here[key])} (there {_written(there[key])})" for key in wrong)
        fit = " ".join(f"{key}={_written(there[key])}" for key in wrong)
        raise UserError(
            f"reward.pool={pool}: expected settings that shape scores as that pool's, got {said}; set {fit}, or use "
            "another pool"
        )


def _written(value: object) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)
