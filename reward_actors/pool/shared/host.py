"""A pool that several jobs share: a Ray actor that they find by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from configs.schema import Config
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.queue import now
from reward_actors.pool.shared.connect import PoolSettings
from reward_actors.pool.stats import Counts, PoolStats
from reward_actors.pool.worker import RewardActor

SILENT_SECONDS = 60.0
"""A client that has sent nothing for so long counts as dead."""


@dataclass(frozen=True)
class Scores:
    """Carries the answers to one call, in its order, and the counts of all queries under its client's quota."""

    answers: tuple[Scored | Failed, ...]
    quota: str
    counts: Counts


class PoolHost(RewardPool):
    """Lends its actors to clients, and drops what those waited for that are silent for a while."""

    def __init__(self, config: Config, silent: float = SILENT_SECONDS, actor_class: type = RewardActor):
        """silent: seconds after which a client counts as dead."""
        super().__init__(config, actor_class)
        self._config, self._silent = config, silent
        self._last_seen: dict[str, float] = {}
        self._open = asyncio.Event()

    async def open(self) -> None:
        """Starts the reward actors. Raises UserError, as `RewardPool.start`."""
        await self.start()
        self._watching = asyncio.create_task(self._watch())
        self._open.set()

    async def settings(self) -> PoolSettings:
        """Returns what shapes its scores; waits until it is open."""
        await self._open.wait()
        return PoolSettings.of(self._config, self.fingerprint)

    async def score_for(self, client: str, queries: Sequence[RewardQuery], priority: int) -> Scores:
        """Scores queries of a client; see `RewardPool.score`."""
        self._last_seen[client] = now()
        quota = self.quota(client)
        answers = await self.score(queries, priority, client)
        return Scores(tuple(answers), quota.id, quota.counts)

    async def heartbeat(self, client: str) -> PoolStats:
        """Notes that a client lives; returns how the pool stands."""
        self._last_seen[client] = now()
        return self.stats()

    def leave(self, client: str) -> None:
        """Drops what a client waits for; see `RewardPool.leave`."""
        self._last_seen.pop(client, None)
        super().leave(client)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._silent / 4)
            limit = now() - self._silent
            for client in [client for client, seen in self._last_seen.items() if seen < limit]:
                self.leave(client)
