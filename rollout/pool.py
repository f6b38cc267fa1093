"""The rollout actors of a job: asked for groups, which come as they are complete, and sent new weights."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

from configs.schema import Config
from envs.types import Group, Prompt
from rollout.actor import RolloutActor
from rollout.replicas import Engines, answer_within
from rollout.stats import BusyClock, RolloutStats
from rollout.weights.update import LOST, WeightSource


class RolloutPool:
    """`await start()`, `async for group in sample(prompts)`, `await update(learner)`, `await close()`."""

    def __init__(self, config: Config, policy_folder: str | Path, actor_class: type = RolloutActor):
        """actor_class: what the engines are, for measuring the pool without them."""
        self._config = config
        self._engines = Engines(config, str(Path(policy_folder).resolve()), actor_class)
        self._clocks = [BusyClock() for _ in range(config.rollout.actors)]
        self._sampling = BusyClock()
        self._groups = self._completions = self._tokens = 0

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
        """Groups, each as soon as it is complete. A prompt is drawn when an engine has room for it.

        Args:
            n: completions per prompt; `rollout.group_size` if None. So too max_tokens and temperature.
            posteriors: completions come with the density of each of their numbers.
            grammar: every completion is a well-formed answer.
            seed, start: a prompt's seed depends on `seed`, its sample and its position, counted from `start`.

        Raises:
            RuntimeError: more than `engines.MAX_RESTARTS` engines were lost.
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
                    self._engines.free(index)

    async def update(self, source: WeightSource, whole: bool = False) -> int:
        """Sends the learner's weights to all engines, between groups. Returns their version.

        whole: what training never changes too, all compared by checksum; so is the first update of an engine.

        If engines are lost on the way, all are started anew and the update is made once more.

        Raises:
            ValueError: the learner's tensors are not those of the policy folder.
            WeightUpdateError: the learner could not send, or engines were lost twice.
        """
        return await self._engines.update(source, whole)

    def stats(self) -> RolloutStats:
        """Totals as they are now."""
        return replace(
            self._engines.stats,
            groups=self._groups,
            completions=self._completions,
            tokens=self._tokens,
            busy_seconds=sum(clock.seconds for clock in self._clocks),
            sampling_seconds=self._sampling.seconds,
        )

    @property
    def engines(self) -> tuple:
        """Handles of the `RolloutActor`s."""
        return tuple(self._engines.handles)

    async def close(self) -> None:
        """Stops the engines."""
        await self._engines.close()

    async def _draw(self, stream: AsyncIterator[Prompt]) -> tuple[int, Prompt | None]:
        index = await self._engines.take()
        prompt = None
        try:
            prompt = await anext(stream, None)
        finally:
            if prompt is None:
                self._engines.free(index)
        return index, prompt

    async def _ask(self, index: int, prompt: Prompt, options: tuple) -> Group:
        while True:
            try:
                engine = await self._engines.at(index)
                with self._clocks[index]:
                    group = await answer_within(self._config.rollout.timeout, engine.generate.remote(prompt, *options))
            except LOST as error:  # the prompt goes to the next engine that is free
                self._engines.lost(index, engine, error)
                index = await self._engines.take()
                continue
            except BaseException:
                self._engines.free(index)
                raise
            self._engines.free(index)
            self._groups += 1
            self._completions += len(group.completions)
            self._tokens += sum(len(completion.token_ids) for completion in group.completions)
            return group


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
