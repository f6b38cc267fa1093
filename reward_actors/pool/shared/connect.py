"""How a job connects to a pool that others share, by its name, and makes sure that it has the same scores."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from configs import UserError
from configs.cluster import scaling
from configs.schema import Config
from reward_actors.pool.batches import unwrap_user_error
from reward_actors.pool.replicas import other_fingerprint_error

CONNECT_SECONDS = 60.0
"""How long a pool may take to appear, at the start and after its end."""


@dataclass(frozen=True)
class PoolSettings:
    """Says what shapes the scores of a pool.

    Attributes:
        settings: by their keys in the configuration.
        fingerprint: of all that comes of them, weights included; empty where it is not known.
    """

    settings: dict[str, object]
    fingerprint: str = ""

    @classmethod
    def of(cls, config: Config, fingerprint: str = "") -> PoolSettings:
        """Picks the settings by which a score differs."""
        reward = config.reward
        prior = str(Path(reward.prior).resolve()) if Path(reward.prior).exists() else reward.prior
        named = {f"reward.{name}": getattr(reward, name) for name in ("restorer", "steps", "noise", "scorer", "dtype")}
        return cls({"world.size": config.world.size, "reward.prior": prior, **named}, fingerprint)

    def check(self, pool: str, offered: PoolSettings) -> None:
        """Raises UserError, one for all, where the scores of the pool of that name are not those wanted here."""
        here, there = self.settings, offered.settings
        wrong = [key for key in there if there[key] != here[key]]
        if wrong:
            got = ", ".join(f"{key}={_written(here[key])} (there {_written(there[key])})" for key in wrong)
            fit = " ".join(f"{key}={_written(there[key])}" for key in wrong)
            raise UserError(
                f"reward.pool={pool}: expected settings that shape scores as that pool's, got {got}; set {fit}, or use "
                "another pool"
            )
        if self.fingerprint not in ("", offered.fingerprint):
            raise other_fingerprint_error(f"reward.pool={pool}: the pool that came back")


async def connect(name: str, wanted: PoolSettings) -> tuple[ActorHandle, PoolSettings]:
    """Waits for the pool `name`, up to `CONNECT_SECONDS`; returns its `PoolHost`, and its settings.

    Raises:
        TimeoutError: there is no such pool by then.
        UserError: its scores are not those wanted.
    """
    loop, announced = asyncio.get_running_loop(), False
    ends = loop.time() + CONNECT_SECONDS
    while True:
        with suppress(ValueError, RayActorError):  # none of that name, or it ends before it is open
            host = ray.get_actor(scaling.POOL + name, namespace=scaling.NAMESPACE)
            offered = await unwrap_user_error(host.settings.remote())
            wanted.check(name, offered)
            return host, offered
        running = ", ".join(scaling.pools()) or "none"
        if loop.time() > ends:
            raise TimeoutError(
                f"reward.pool={name}: expected the name of a running pool, found {running}; start it with "
                f"`duvlm run rewards name={name}` on the same cluster, or leave reward.pool out"
            )
        if not announced:
            print(f"waiting up to {CONNECT_SECONDS:g} s for the pool {name}; running: {running}", flush=True)
        announced = True
        await asyncio.sleep(min(1.0, CONNECT_SECONDS / 4))


def _written(value: object) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)
