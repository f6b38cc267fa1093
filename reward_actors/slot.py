"""One place in the pool and the actor that fills it now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import ray

from configs import UserError
from configs.schema import Reward
from envs.samples import Scored
from reward_actors.parcels import Finished
from reward_actors.queue import Item
from reward_actors.stats import IDLE, Ready, Report

START_SECONDS = 180.0
"""How long an actor may take to load its prior."""


class Slot:
    """An actor, whether it takes work, and what it and those before it have done.

    rows: how many queries it may hold. in_flight: those it holds, by their serial numbers.
    alone: reserved for one suspect: nobody else enters. listening: somebody waits for its answers.
    """

    def __init__(self, name: str):
        self.name = name
        self.actor = None
        self.fingerprint, self.pid, self.rows = "", 0, 0
        self.live = self.draining = self.alone = self.listening = False
        self.in_flight: dict[int, Item] = {}
        self.restarts = self.failures_in_row = 0
        self._before, self._now = IDLE, IDLE
        self._occupied = self._since = 0.0

    async def open(self, actor_class: type, settings: Reward, size: int) -> None:
        """Creates an actor and waits until it has loaded its prior; then it is `live`.

        Raises:
            UserError: it cannot be placed or its prior cannot be loaded.
            ray.exceptions.RayActorError: it died on the way.
        """
        self.actor = actor = ray.remote(actor_class).options(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            scheduling_strategy="SPREAD",  # each by itself, on whichever node has most room
            max_restarts=0,  # the pool restarts it itself: with a pause, and knowing what it held
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        ).remote(self.name, settings, size)  # fmt: skip
        try:
            ready: Ready = await asyncio.wait_for(actor.open.remote(), START_SECONDS)
        except TimeoutError:
            self.kill()
            raise UserError(
                f"reward actor {self.name} not ready in {START_SECONDS:g} s: it needs {settings.cpus:g} CPUs "
                f"and {settings.gpus:g} GPUs; free in the cluster: {ray.available_resources()}"
            ) from None
        except UserError as error:
            self.kill()
            raise UserError(str(error.args[0])) from None  # Ray wraps it in the actor's traceback
        self.fingerprint, self.pid, self.rows = ready.fingerprint, ready.pid, ready.rows
        self.live = True

    def kill(self) -> None:
        """Ends the actor, if there is one; what it has done stays counted."""
        if self.actor is not None:
            ray.kill(self.actor)
        self.actor, self.live = None, False
        self._before, self._now = self.report, IDLE

    def take(self, serial: int, item: Item) -> None:
        """Notes a query on its way to the actor."""
        if not self.in_flight:
            self._since = time.monotonic()
        self.in_flight[serial] = item

    def release(self, serials: Sequence[int]) -> list[Item]:
        """Notes that queries have left the actor, however they ended, and returns them."""
        items = [self.in_flight.pop(serial) for serial in serials]
        if items and not self.in_flight:
            self._occupied += time.monotonic() - self._since
            self.alone = False
        return items

    def heard(self, finished: Finished) -> None:
        """Notes what the present actor tells."""
        if any(isinstance(answer.result, Scored) for answer in finished.answers):
            self.failures_in_row = 0
        self._now = finished.report

    @property
    def takes_work(self) -> bool:
        """Whether queries of any kind may be handed to it, as far as it has room."""
        return self.live and not self.draining and not self.alone

    @property
    def has_room(self) -> bool:
        """Whether it may be handed one more query."""
        return self.takes_work and len(self.in_flight) < self.rows

    @property
    def ahead(self) -> int:
        """How many queries it is handed beyond its rows while many wait: the next one enters where one leaves, without
        a call in between."""
        return max(1, self.rows // 4)

    @property
    def report(self) -> Report:
        return self._before + self._now

    @property
    def occupied(self) -> float:
        """Seconds in which it held a query."""
        return self._occupied + (time.monotonic() - self._since if self.in_flight else 0.0)
