"""Keeps the rollout engines of a pool running: their places, their weights, and new ones for those that die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

import ray

from configs.cluster.background import Background
from configs.cluster.placement import Reservation
from configs.cluster.resources import rollout_engines
from configs.cluster.supervision import describe_failure
from configs.schema import Config
from rollout.stats import RolloutStats
from rollout.vllm.arguments import environment, start_timeout
from rollout.weights.transfer import LOST, EngineLostError
from rollout.weights.update import WeightSource, WeightUpdate, WeightUpdateError

MAX_RESTARTS = 20
"""Engines that may be lost in one job, all together."""


class EngineState(Enum):
    """Says what may be asked of an engine."""

    STARTING = "its process is starting, or does not have the newest weights yet"
    READY = "it samples"
    LOST = "it is gone or does not answer; another is to take its place"


@dataclass
class Engine:
    """Holds what is known of one engine; an engine that is started anew is the same `Engine` with another attempt.

    Args:
        handle: of its `RolloutActor`.
        state: what may be asked of it.
        attempt: how often it has been started anew.
        in_flight: prompts that it holds.
    """

    handle: Any = None
    state: EngineState = EngineState.STARTING
    attempt: int = 0
    in_flight: int = 0


@dataclass(frozen=True)
class Place:
    """Entitles its holder to have one prompt at an engine, as that engine is in this attempt."""

    index: int
    attempt: int
    handle: Any


class EngineSet:
    """Holds `rollout.actors` engines with `rollout.in_flight` places each.

    An engine goes STARTING -> READY -> LOST -> STARTING. For example: engine 1 dies while it holds three prompts. The
    first of the three requests to fail reports its place (attempt 0) by `report_lost`; the engine is LOST, and one
    task starts it anew. The second and third report the same attempt and change nothing. All three take places
    elsewhere. When the new process has the newest weights, the engine is READY in attempt 1, with all places free.

    stats: what the engines did; restarts and updates are counted here, groups by the pool.
    """

    def __init__(self, config: Config, policy_folder: str | Path, actor_class: type):
        self._config = config
        self._folder = str(policy_folder)
        self._actor_class = actor_class
        self._engines = [Engine() for _ in range(config.rollout.actors)]
        self._reservation: Reservation | None = None
        self._maintenance = asyncio.Lock()  # one update, or one replacement, at a time
        self._place_freed = asyncio.Event()
        self._failure: Exception | None = None
        self._update = WeightUpdate(self._folder)
        self._source: WeightSource | None = None
        self._background = Background()
        self.stats = RolloutStats()

    @property
    def handles(self) -> tuple:
        """Handles of the present `RolloutActor`s, by index."""
        return tuple(engine.handle for engine in self._engines)

    async def start(self) -> None:
        """Starts all engines, side by side; returns when each of them answers."""
        self._reservation = await asyncio.to_thread(Reservation, rollout_engines(self._config))
        for index, engine in enumerate(self._engines):
            engine.handle = self._create(index)
        await asyncio.gather(*[self._answers(engine) for engine in self._engines])
        for engine in self._engines:
            self._admit(engine)

    async def take(self) -> Place:
        """Takes a place at the engine that holds the fewest prompts, as soon as one is free.

        Raises:
            RuntimeError: more than `MAX_RESTARTS` engines were lost.
        """
        while self._failure is None:
            places, ready = self._config.rollout.in_flight, EngineState.READY
            free = [engine for engine in self._engines if engine.in_flight < places and engine.state is ready]
            if free:
                engine = min(free, key=attrgetter("in_flight"))
                engine.in_flight += 1
                return Place(self._engines.index(engine), engine.attempt, engine.handle)
            self._place_freed.clear()
            await self._place_freed.wait()
        raise self._failure

    def free(self, place: Place) -> None:
        """Gives a place back."""
        engine = self._engines[place.index]
        if engine.attempt == place.attempt:
            engine.in_flight -= 1
            self._place_freed.set()

    def report_lost(self, place: Place, error: Exception) -> None:
        """Gives a place back whose engine is gone or does not answer, and has that engine started anew."""
        engine = self._engines[place.index]
        if engine.attempt == place.attempt and engine.state is EngineState.READY:
            engine.state = EngineState.LOST
            self._background.spawn(self._recover(place, error))

    async def update(self, source: WeightSource, whole: bool = False) -> int:
        """See `RolloutPool.update`."""
        async with self._maintenance:
            self._source = source
            try:
                return await self._send(self.handles, whole)
            except EngineLostError as error:
                began = time.monotonic()
                await asyncio.gather(*[self._restart(index, error) for index in range(len(self._engines))])
                self.stats.restart_seconds += len(self._engines) * (time.monotonic() - began)
            try:
                version = await self._send(self.handles)
            except EngineLostError as error:
                raise WeightUpdateError(f"engines were lost twice in one weight update: {error}") from error
            for engine in self._engines:
                self._admit(engine)
            return version

    async def close(self) -> None:
        """Ends all engines."""
        await self._background.cancel()
        await asyncio.gather(*[_end(engine.handle) for engine in self._engines if engine.handle is not None])
        if self._reservation:
            self._reservation.release()

    def _create(self, index: int) -> Any:
        options = {
            "num_cpus": self._config.rollout.cpus,
            "num_gpus": self._config.rollout.gpus,
            "runtime_env": {"env_vars": environment(self._config)},
            **self._reservation.options(index),
        }
        return ray.remote(self._actor_class).options(**options).remote(self._folder, self._config)

    async def _answers(self, engine: Engine) -> None:
        await answer_within(start_timeout(self._folder, self._config), engine.handle.ready.remote())

    def _admit(self, engine: Engine) -> None:
        engine.state = EngineState.READY
        self._place_freed.set()

    async def _recover(self, place: Place, error: Exception) -> None:
        """Replaces a lost engine, unless an update has done so already."""
        began = time.monotonic()
        try:
            async with self._maintenance:
                if self._engines[place.index].attempt == place.attempt:
                    await self._replace(place.index, error)
                    self.stats.restart_seconds += time.monotonic() - began
        except Exception as failure:
            self._failure = failure  # raised where the next place is taken
            self._place_freed.set()

    async def _replace(self, index: int, error: Exception) -> None:
        """Starts an engine anew and gives it the newest weights, again and again if it is lost on the way."""
        while True:
            await self._restart(index, error)
            try:
                if self._source is not None:
                    await self._send([self._engines[index].handle])
            except EngineLostError as next_error:
                error = next_error
            else:
                self._admit(self._engines[index])
                return

    async def _restart(self, index: int, error: Exception) -> None:
        """Starts an engine anew until it answers; its old places are void."""
        engine = self._engines[index]
        while True:
            self.stats.restarts += 1
            if self.stats.restarts > MAX_RESTARTS:
                raise RuntimeError(
                    f"lost {self.stats.restarts} rollout engines; the last: {describe_failure(error)}"
                ) from error
            print(f"rollout engine {index} is started anew: {describe_failure(error)}", flush=True)
            engine.state = EngineState.STARTING
            engine.attempt += 1
            engine.in_flight = 0
            await _end(engine.handle)
            engine.handle = self._create(index)
            try:
                await self._answers(engine)
                return
            except LOST as next_error:
                error = next_error

    async def _send(self, handles: Sequence[Any], whole: bool = False) -> int:
        version = await self._update.run(handles, self._source, whole)
        self.stats.updates += 1
        self.stats.update_bytes += self._update.bytes
        return version


async def answer_within(seconds: float, reference: ray.ObjectRef) -> Any:
    """Awaits an actor's answer.

    Raises:
        TimeoutError: no answer came within `seconds`.
    """

    async def answer() -> Any:
        return await reference

    try:
        return await asyncio.wait_for(answer(), seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer in {seconds:g} s: it hangs") from None


async def _end(handle: Any) -> None:
    """Lets an engine stop its processes, if it still can, then ends its actor."""
    with suppress(*LOST):  # gone already
        await answer_within(10, handle.close.remote())
    ray.kill(handle)
