"""How a job finds a pool that others share, by its name."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import ray
from ray.exceptions import RayActorError

from configs.cluster import scaling as control
from configs.schema import Config
from reward_actors.pool.asking import asked
from reward_actors.pool.replicas import another_prior
from reward_actors.pool.shared.host import Offer, check_shaping, shaping

FIND_SECONDS = 60.0
"""How long a pool may take to appear, at the start and after its end."""


class Finder:
    """Finds the pool `reward.pool` of a job, again and again, as long as its scores are those it had at first."""

    def __init__(self, config: Config):
        self._name, self._shaping, self._fingerprint = config.reward.pool, shaping(config), ""

    async def find(self):
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
                self.accept(await asked(host.offer.remote()))
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

    def accept(self, offer: Offer) -> None:
        """Raises UserError where the scores of a pool are not those of this job, or not those it had until now."""
        check_shaping(self._name, offer.settings, self._shaping)
        if self._fingerprint not in ("", offer.fingerprint):
            raise another_prior(f"reward.pool={self._name}: the pool that came back")
        self._fingerprint = offer.fingerprint
