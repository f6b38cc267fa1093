"""The rollout engines of a job: asks them for groups, sends them new weights, and replaces those that die."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ray

from configs.deaths import told
from configs.placement import Reservation
from configs.resources import rollout_engines
from configs.schema import Config
from envs.samples import Group, Prompt
from rollout.actor import RolloutActor
from rollout.engine import environment
from rollout.stats import BusyClock, RolloutStats
from rollout.update import LOST, EngineLostError, WeightSource, WeightUpdate, WeightUpdateError

MAX_RESTARTS = 20
"""Engines that may be lost in one job, all together."""
START_SECONDS = 300.0
"""How long an engine may take to start."""


class RolloutPool:
    """`await start()`, `async for group in sample(prompts)`, `await update(learner)`, `await close()`."""

    def __init__(self, config: Config, policy_folder: str | Path, actor_class: type = RolloutActor):
        """actor_class: what the engines are, for measuring the pool without them."""
        self._config, self._folder = config, str(Path(policy_folder).resolve())
        self._actor_class, self._engines = actor_class, []
        self._room: Reservation | None = None
        self._free: asyncio.Queue = asyncio.Queue()  # an engine's index for each prompt it could take now
        self._weights = asyncio.Lock()  # one update, or one restart, at a time
        self._update, self._source = WeightUpdate(config, self._folder), None
        self._recoveries: set[asyncio.Task] = set()
        self._clocks = [BusyClock() for _ in range(config.rollout.actors)]
        self._sampling = BusyClock()
        self._stats = RolloutStats()

    async def start(self) -> None:
        """Starts the engines from the policy folder, side by side; returns when all of them answer."""
        self._room = await asyncio.to_thread(Reservation, rollout_engines(self._config))
        self._engines = [self._create(index) for index in range(len(self._clocks))]
        await asyncio.gather(*[_within(START_SECONDS, engine.ready.remote()) for engine in self._engines])
        for _ in range(self._config.rollout.in_flight):
            for index in range(len(self._engines)):
                self._free.put_nowait(index)

    async def sample(
        self,
        prompts: Iterable[Prompt] | AsyncIterable[Prompt],
        n: int | None = None,
        seed: int = 0,
        start: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        posteriors: bool = False,
        grammar: bool = False,
    ) -> AsyncIterator[Group]:
        """Groups, each as soon as it is complete. A prompt is drawn when an engine has room for it.

        Args:
            n: completions per prompt; `rollout.group_size` if None. So too max_tokens and temperature.
            posteriors: completions come with the density of each of their numbers.
            grammar: every completion is a well-formed answer.
            seed, start: a prompt's seed depends on `seed`, its sample and its position, counted from `start`.

        Raises:
            RuntimeError: more than `MAX_RESTARTS` engines were lost.
        """
        rollout = self._config.rollout
        n = rollout.group_size if n is None else n
        max_tokens = rollout.max_tokens if max_tokens is None else max_tokens
        temperature = rollout.temperature if temperature is None else temperature
        stream, position = _asynchronous(prompts), start
        drawing, asking = asyncio.ensure_future(self._draw(stream)), set()
        with self._sampling:
            try:
                while drawing or asking:
                    tasks = asking | {drawing} - {None}
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    if drawing in done:
                        index, prompt = drawing.result()
                        drawing = None
                        if prompt is not None:
                            seeded = _seed(seed, prompt.sample_id, position)
                            options = (n, seeded, max_tokens, temperature, posteriors, grammar)
                            asking.add(asyncio.ensure_future(self._ask(index, prompt, options)))
                            drawing, position = asyncio.ensure_future(self._draw(stream)), position + 1
                    for task in done & asking:
                        asking.remove(task)
                        yield task.result()
            finally:
                for task in asking | {drawing} - {None}:
                    task.cancel()
                if (index := _drawn(drawing)) is not None:
                    self._free.put_nowait(index)

    async def update(self, source: WeightSource, whole: bool = False) -> int:
        """Sends the learner's weights to all engines, between groups. Returns their version.

        whole: what training never changes too, all compared by checksum; so is the first update of an engine.

        If engines are lost on the way, all are started anew and the update is made once more.

        Raises:
            ValueError: the learner's tensors are not those of the policy folder.
            WeightUpdateError: the learner could not send, or engines were lost twice.
        """
        async with self._weights:
            self._source = source
            try:
                return await self._send(self._engines, whole)
            except EngineLostError as error:
                began = time.monotonic()
                await asyncio.gather(*[self._restart(index, error) for index in range(len(self._engines))])
                self._stats.restart_seconds += len(self._engines) * (time.monotonic() - began)
            try:
                return await self._send(self._engines)
            except EngineLostError as error:
                raise WeightUpdateError(f"engines were lost twice in one weight update: {error}") from error

    def stats(self) -> RolloutStats:
        """Totals as they are now."""
        busy = sum(clock.seconds for clock in self._clocks)
        return replace(self._stats, busy_seconds=busy, sampling_seconds=self._sampling.seconds)

    @property
    def engines(self) -> tuple:
        """Handles of the `RolloutActor`s."""
        return tuple(self._engines)

    async def close(self) -> None:
        """Stops the engines."""
        for task in self._recoveries:
            task.cancel()
        await asyncio.gather(*[_end(engine) for engine in self._engines])
        self._engines = []
        if self._room:
            self._room.release()

    def _create(self, index: int):
        options = {
            "num_cpus": self._config.rollout.cpus,
            "num_gpus": self._config.rollout.gpus,
            "runtime_env": {"env_vars": environment(self._config)},
            **self._room.options(index),
        }
        return ray.remote(self._actor_class).options(**options).remote(self._folder, self._config)

    async def _draw(self, stream: AsyncIterator[Prompt]) -> tuple[int, Prompt | None]:
        index = await self._take()
        prompt = None
        try:
            prompt = await anext(stream, None)
        finally:
            if prompt is None:
                self._free.put_nowait(index)
        return index, prompt

    async def _take(self) -> int:
        item = await self._free.get()
        if isinstance(item, Exception):
            self._free.put_nowait(item)  # for the next who asks
            raise item
        return item

    async def _ask(self, index: int, prompt: Prompt, options: tuple) -> Group:
        while True:
            async with self._weights:  # an engine that is being replaced has a place, but not its weights yet
                engine = self._engines[index]
            try:
                with self._clocks[index]:
                    group = await _within(self._config.rollout.timeout, engine.generate.remote(prompt, *options))
            except LOST as error:  # the prompt goes to the next engine that is free
                self._recover(index, engine, error)
                index = await self._take()
                continue
            except BaseException:
                self._free.put_nowait(index)
                raise
            self._free.put_nowait(index)
            self._stats.groups += 1
            self._stats.completions += len(group.completions)
            self._stats.tokens += sum(len(completion.token_ids) for completion in group.completions)
            return group

    def _recover(self, index: int, engine, error: Exception) -> None:
        async def recover() -> None:
            began = time.monotonic()
            try:
                async with self._weights:
                    if self._engines[index] is engine:
                        await self._replace(index, error)
                        self._stats.restart_seconds += time.monotonic() - began  # once, whoever else had asked it
            except Exception as failure:
                self._free.put_nowait(failure)  # raised where the next prompt is asked
            else:
                self._free.put_nowait(index)

        task = asyncio.ensure_future(recover())
        self._recoveries.add(task)
        task.add_done_callback(self._recoveries.discard)

    async def _replace(self, index: int, error: Exception) -> None:
        """Starts an engine anew and gives it the newest weights, also if it is lost on the way."""
        while True:
            await self._restart(index, error)
            if self._source is None:
                return
            try:
                await self._send([self._engines[index]])
                return
            except EngineLostError as again:
                error = again

    async def _restart(self, index: int, error: Exception) -> None:
        while True:
            self._stats.restarts += 1
            if self._stats.restarts > MAX_RESTARTS:
                raise RuntimeError(f"lost {self._stats.restarts} rollout engines; the last: {told(error)}") from error
            print(f"rollout engine {index} is started anew: {told(error)}", flush=True)
            await _end(self._engines[index])
            self._engines[index] = self._create(index)
            try:
                await _within(START_SECONDS, self._engines[index].ready.remote())
                return
            except LOST as again:
                error = again

    async def _send(self, engines: list, whole: bool = False) -> int:
        started = time.monotonic()
        version = await self._update.run(engines, self._source, whole)
        self._stats.updates += 1
        self._stats.update_seconds += time.monotonic() - started
        self._stats.update_bytes += self._update.bytes
        return version


async def _answer(reference):
    return await reference


async def _within(seconds: float, reference):
    try:
        return await asyncio.wait_for(_answer(reference), seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer in {seconds:g} s: it hangs") from None


async def _end(engine) -> None:
    """Lets an engine stop its processes, if it still can, then ends its actor."""
    with suppress(*LOST):  # gone already
        await asyncio.wait_for(_answer(engine.close.remote()), 10)
    ray.kill(engine)


def _drawn(drawing: asyncio.Task | None) -> int | None:
    """The engine that was taken for a prompt which nobody will ask now."""
    if drawing is None or not drawing.done() or drawing.cancelled() or drawing.exception():
        return None
    index, prompt = drawing.result()
    return None if prompt is None else index


async def _asynchronous(prompts: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if isinstance(prompts, AsyncIterable):
        async for prompt in prompts:
            yield prompt
    else:
        for prompt in prompts:
            yield prompt


def _seed(seed: int, sample_id: str, position: int) -> int:
    return zlib.crc32(f"{seed}/{sample_id}/{position}".encode())
