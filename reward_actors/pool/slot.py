"""One place in the pool and the actor that fills it now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import ray

from configs import UserError
from configs.schema import Reward
from envs.types import Scored
from reward_actors.pool.asking import asked
from reward_actors.pool.parcels import Finished
from reward_actors.pool.queue import Item
from reward_actors.pool.stats import IDLE, Ready, Report

START_SECONDS = 180.0
"""How long an actor may take to load its prior."""


class Slot:
    """An actor, whether it takes work, and what it and those before it have done.

    rows: how many queries it may hold. in_flight: those it holds, by their serial numbers.
    alone: kept for one suspect, nobody else enters. trying: the suspect is there. listening: somebody waits for its
    answers.
    """

    def __init__(self, name: str):
        self.name = name
        self.actor = None
        self.fingerprint, self.pid, self.rows = "", 0, 0
        self.live = self.draining = self.alone = self.trying = self.listening = False
        self.in_flight: dict[int, Item] = {}
        self.failures_in_row = self._steps = 0
        self._before, self._now = IDLE, IDLE
        self._occupied = self._since = self._moved = 0.0

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
            ready: Ready = await asyncio.wait_for(asked(actor.open.remote()), START_SECONDS)
        except TimeoutError:
            self.kill()
            raise UserError(
                f"reward actor {self.name} not ready in {START_SECONDS:g} s: it needs {settings.cpus:g} CPUs "
                f"and {settings.gpus:g} GPUs; free in the cluster: {ray.available_resources()}"
            ) from None
        except UserError:
            self.kill()
            raise
        self.fingerprint, self.pid, self.rows = ready.fingerprint, ready.pid, ready.rows
        self.live, self._steps = True, 0

    def kill(self) -> None:
        """Ends the actor, if there is one; what it has done stays counted."""
        if self.actor is not None:
            ray.kill(self.actor)
        self.actor, self.live, self.listening = None, False, False
        self._before, self._now = self.report, IDLE

    def take(self, serial: int, item: Item) -> None:
        """Notes a query on its way to the actor."""
        if not self.in_flight:
            self._since = self._moved = time.monotonic()
        self.in_flight[serial], self.trying = item, item.suspect

    def release(self, serials: Iterable[int]) -> list[Item]:
        """Notes that queries have left the actor, however they ended, and returns those that it held."""
        items = [self.in_flight.pop(serial) for serial in serials if serial in self.in_flight]
        if items and not self.in_flight:
            self._occupied += time.monotonic() - self._since
            self.alone = self.trying = False
        return items

    async def finished(self, patience: float) -> Finished:
        """The next answers of the present actor; waits as long as it holds nothing or goes on stepping.

        Its steps are looked at twice in `patience` seconds: where the second look finds no more of them, or the first
        is not answered by then, it hangs.

        Raises:
            TimeoutError: it held something and took no step for `patience` seconds.
            ray.exceptions.RayActorError: it is dead.
        """
        actor, half = self.actor, patience / 2
        answers = asyncio.ensure_future(actor.take.remote())
        try:
            while True:
                done, _ = await asyncio.wait([answers], timeout=half - self._still % half)
                if done:
                    return answers.result()
                if self.in_flight:
                    async with asyncio.timeout(max(half, patience - self._still)):
                        self._stepped(await actor.steps.remote())
                if self._still >= patience:
                    raise TimeoutError(f"no step in {patience:g} s")
        finally:
            answers.cancel()

    def heard(self, finished: Finished) -> None:
        """Notes what the present actor tells with its answers."""
        if any(isinstance(answer.result, Scored) for answer in finished.answers):
            self.failures_in_row = 0
        self._now, self._steps, self._moved = finished.report, finished.steps, time.monotonic()

    @property
    def takes_work(self) -> bool:
        """Whether queries of any kind may be handed to it, as far as it has room."""
        return self.live and not self.draining and not self.alone

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

    @property
    def _still(self) -> float:
        """Seconds for which it has held something without a step that we know of; 0 while it holds nothing."""
        return time.monotonic() - self._moved if self.in_flight else 0.0

    def _stepped(self, steps: int) -> None:
        if steps != self._steps:
            self._steps, self._moved = steps, time.monotonic()
