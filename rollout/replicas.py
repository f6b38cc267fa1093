"""The rollout engines of a pool: which of them is free, their weights, and new ones for those that die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray

from configs.cluster.background import Background
from configs.cluster.placement import Reservation
from configs.cluster.resources import rollout_engines
from configs.cluster.supervision import describe_failure
from configs.schema import Config
from rollout.stats import RolloutStats
from rollout.vllm.arguments import environment
from rollout.weights.update import LOST, EngineLostError, WeightSource, WeightUpdate, WeightUpdateError

MAX_RESTARTS = 20
"""Engines that may be lost in one job, all together."""
START_SECONDS = 300.0
"""How long an engine may take to start."""


class Engines:
    """As many as `rollout.actors`, each with `rollout.in_flight` places; a place is known by its engine's index.

    handles: of the actors, by index. stats: what is counted here of restarts and updates.
    """

    def __init__(self, config: Config, folder: str, actor_class: type):
        self._config, self._folder, self._actor_class = config, folder, actor_class
        self.handles: list = []
        self.stats = RolloutStats()
        self._room: Reservation | None = None
        self._free: asyncio.Queue[int | Exception] = asyncio.Queue()
        self._weights = asyncio.Lock()  # one update, or one restart, at a time
        self._update, self._source = WeightUpdate(config, folder), None
        self._background = Background()

    async def start(self) -> None:
        """Starts all, side by side; returns when each of them answers."""
        self._room = await asyncio.to_thread(Reservation, rollout_engines(self._config))
        self.handles = [self._create(index) for index in range(self._config.rollout.actors)]
        await asyncio.gather(*[answer_within(START_SECONDS, engine.ready.remote()) for engine in self.handles])
        for _ in range(self._config.rollout.in_flight):
            for index in range(len(self.handles)):
                self.free(index)

    async def take(self) -> int:
        """A place, as soon as one is free.

        Raises:
            RuntimeError: more than `MAX_RESTARTS` engines were lost.
        """
        place = await self._free.get()
        if isinstance(place, Exception):
            self._free.put_nowait(place)  # for the next who asks
            raise place
        return place

    def free(self, index: int) -> None:
        """Gives a place back."""
        self._free.put_nowait(index)

    async def at(self, index: int) -> Any:
        """The engine of a place: one that is being replaced is there, but not before it has its weights."""
        async with self._weights:
            return self.handles[index]

    async def update(self, source: WeightSource, whole: bool = False) -> int:
        """See `RolloutPool.update`."""
        async with self._weights:
            self._source = source
            try:
                return await self._send(self.handles, whole)
            except EngineLostError as error:
                began = time.monotonic()
                await asyncio.gather(*[self._restart(index, error) for index in range(len(self.handles))])
                self.stats.restart_seconds += len(self.handles) * (time.monotonic() - began)
            try:
                return await self._send(self.handles)
            except EngineLostError as error:
                raise WeightUpdateError(f"engines were lost twice in one weight update: {error}") from error

    def lost(self, index: int, engine: Any, error: Exception) -> None:
        """Somebody found `engine` gone and leaves its place: the place is free again once it is replaced."""
        self._background.spawn(self._recover(index, engine, error))

    async def close(self) -> None:
        """Ends all."""
        await self._background.cancel()
        await asyncio.gather(*[_end(engine) for engine in self.handles])
        self.handles = []
        if self._room:
            self._room.release()

    def _create(self, index: int) -> Any:
        options = {
            "num_cpus": self._config.rollout.cpus,
            "num_gpus": self._config.rollout.gpus,
            "runtime_env": {"env_vars": environment(self._config)},
            **self._room.options(index),
        }
        return ray.remote(self._actor_class).options(**options).remote(self._folder, self._config)

    async def _recover(self, index: int, engine: Any, error: Exception) -> None:
        began = time.monotonic()
        try:
            async with self._weights:
                if self.handles[index] is engine:
                    await self._replace(index, error)
                    self.stats.restart_seconds += time.monotonic() - began  # once, whoever else had asked it
        except Exception as failure:
            self._free.put_nowait(failure)  # raised where the next place is taken
        else:
            self.free(index)

    async def _replace(self, index: int, error: Exception) -> None:
        """Starts an engine anew and gives it the newest weights, also if it is lost on the way."""
        while True:
            await self._restart(index, error)
            if self._source is None:
                return
            try:
                await self._send([self.handles[index]])
                return
            except EngineLostError as again:
                error = again

    async def _restart(self, index: int, error: Exception) -> None:
        while True:
            self.stats.restarts += 1
            reason = describe_failure(error)
            if self.stats.restarts > MAX_RESTARTS:
                raise RuntimeError(f"lost {self.stats.restarts} rollout engines; the last: {reason}") from error
            print(f"rollout engine {index} is started anew: {reason}", flush=True)
            await _end(self.handles[index])
            self.handles[index] = self._create(index)
            try:
                await answer_within(START_SECONDS, self.handles[index].ready.remote())
                return
            except LOST as again:
                error = again

    async def _send(self, engines: Sequence[Any], whole: bool = False) -> int:
        started = time.monotonic()
        version = await self._update.run(engines, self._source, whole)
        self.stats.updates += 1
        self.stats.update_seconds += time.monotonic() - started
        self.stats.update_bytes += self._update.bytes
        return version


async def answer_within(seconds: float, reference: ray.ObjectRef) -> Any:
    """Raises TimeoutError, with a line for people, where no answer comes."""
    try:
        return await asyncio.wait_for(_answer(reference), seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer in {seconds:g} s: it hangs") from None


async def _answer(reference: ray.ObjectRef) -> Any:
    return await reference


async def _end(engine: Any) -> None:
    """Lets an engine stop its processes, if it still can, then ends its actor."""
    with suppress(*LOST):  # gone already
        await answer_within(10, engine.close.remote())
    ray.kill(engine)
