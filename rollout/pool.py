"""Asks the rollout engines of a job for groups, which come as they are complete, and sends them new weights."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path

from configs.schema import Config
from envs.types import Group, Prompt
from rollout.actor import RolloutActor
from rollout.replicas import EngineSet, Place, answer_within
from rollout.stats import BusyClock, RolloutStats
from rollout.weights.transfer import LOST
from rollout.weights.update import WeightSource


class RolloutPool:
    """Samples groups from all engines: `await start()`, `async for group in sample(prompts)`, `await update(learner)`,
    `await close()`.

    Args:
        policy_folder: the policy that the engines begin with.
        actor_class: what the engines are, for measuring the pool without them.
        engine_set: who keeps them, for simulating them.
    """

    def __init__(
        self,
        config: Config,
        policy_folder: str | Path,
        actor_class: type = RolloutActor,
        engine_set: type[EngineSet] = EngineSet,
    ):
        self._config = config
        self._engines = engine_set(config, Path(policy_folder).resolve(), actor_class)
        self._engine_clocks = [BusyClock() for _ in range(config.rollout.actors)]
        self._sampling_clock = BusyClock()

    async def start(self) -> None:
        """Starts the engines from the policy folder, side by side; returns when all of them answer."""
        await self._engines.start()

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
        """Yields groups, each as soon as it is complete. A prompt is drawn when an engine has a place for it.

        Args:
            n: completions per prompt; `rollout.group_size` if None. So too max_tokens and temperature.
            posteriors: completions come with the density of each of their numbers.
            grammar: every completion is a well-formed answer.
            seed, start: a prompt's seed depends on `seed`, its sample and its position, counted from `start`.

        Raises:
            RuntimeError: more than `replicas.MAX_RESTARTS` engines were lost.
        """
        rollout = self._config.rollout
        n = rollout.group_size if n is None else n
        max_tokens = rollout.max_tokens if max_tokens is None else max_tokens
        temperature = rollout.temperature if temperature is None else temperature
        stream = _asynchronous(prompts)
        position = start
        tasks: set[asyncio.Task] = set()
        ended: asyncio.Queue[asyncio.Task] = asyncio.Queue()

        def spawn(work: Coroutine) -> asyncio.Task:
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(ended.put_nowait)
            return task

        drawing = spawn(self._draw(stream))
        with self._sampling_clock:
            try:
                while tasks:
                    task = await ended.get()
                    tasks.remove(task)
                    if task is not drawing:
                        yield task.result()
                        continue
                    place, prompt = task.result()
                    if prompt is not None:
                        options = (n, _seed(seed, prompt.sample_id, position), max_tokens, temperature)
                        spawn(self._request(place, prompt, (*options, posteriors, grammar)))
                        drawing = spawn(self._draw(stream))
                        position += 1
            finally:
                for task in tasks:
                    task.cancel()
                if drawing in tasks and (place := _unused_place(drawing)) is not None:
                    self._engines.free(place)

    async def update(self, source: WeightSource, whole: bool = False) -> int:
        """Sends the learner's weights to all engines, between groups. Returns their version.

        If engines are lost on the way, all are started anew and the update is made once more.

        whole: also send what training never changes; the first update of an engine always does.

        Raises:
            ValueError: the learner's tensors are not those of the policy folder.
            WeightUpdateError: the learner could not send, or engines were lost twice.
        """
        return await self._engines.update(source, whole)

    async def profile(self, folder: str) -> None:
        """Begins traces of the engines by vLLM, where `folder` is empty; else ends them and moves them there."""
        traces = (engine.profile.remote(folder, f"rollout-{i}") for i, engine in enumerate(self.engines))
        await asyncio.gather(*traces, return_exceptions=True)  # some may die

    def stats(self) -> RolloutStats:
        """Returns the totals up to now."""
        return replace(
            self._engines.stats,
            busy_seconds=sum(clock.seconds for clock in self._engine_clocks),
            sampling_seconds=self._sampling_clock.seconds,
        )

    @property
    def engines(self) -> tuple:
        """Handles of the `RolloutActor`s."""
        return self._engines.handles

    async def close(self) -> None:
        """Stops the engines."""
        await self._engines.close()

    async def _draw(self, stream: AsyncIterator[Prompt]) -> tuple[Place, Prompt | None]:
        """Takes a place, then the prompt for it; no prompt, and the place given back, where the stream has ended."""
        place = await self._engines.take()
        prompt = None
        try:
            prompt = await anext(stream, None)
        finally:
            if prompt is None:
                self._engines.free(place)
        return place, prompt

    async def _request(self, place: Place, prompt: Prompt, options: tuple) -> Group:
        """Samples one group; where its engine is lost, at the next engine that has a place."""
        while True:
            try:
                with self._engine_clocks[place.index]:
                    answer = place.handle.generate.remote(prompt, *options)
                    group = await answer_within(self._config.rollout.timeout, answer)
            except LOST as error:
                self._engines.report_lost(place, error)
                place = await self._engines.take()
                continue
            except BaseException:
                self._engines.free(place)
                raise
            self._engines.free(place)
            stats = self._engines.stats
            stats.groups += 1
            stats.completions += len(group.completions)
            stats.tokens += sum(len(completion.token_ids) for completion in group.completions)
            return group


def _unused_place(drawing: asyncio.Task) -> Place | None:
    """Returns the place that was taken for a prompt which nobody will ask now."""
    if not drawing.done() or drawing.cancelled() or drawing.exception():
        return None
    place, prompt = drawing.result()
    return None if prompt is None else place


async def _asynchronous(prompts: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if isinstance(prompts, AsyncIterable):
        async for prompt in prompts:
            yield prompt
    else:
        for prompt in prompts:
            yield prompt


def _seed(seed: int, sample_id: str, position: int) -> int:
    return zlib.crc32(f"{seed}/{sample_id}/{position}".encode())
