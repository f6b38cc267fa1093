"""The restorations of an evaluation, by columns: the policy's parameters, the true ones, classical methods.

They are made and measured by the reward pool, on whatever devices it has: its actors take a `RestorationQuery` each.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import ray
from rich.progress import Progress

from benchmarks.quality.columns import Task
from benchmarks.quality.foreign import given_picture
from benchmarks.quality.measures import Quality, judge, named_weights
from configs import UserError
from configs.schema import Config
from envs.degradations import physics
from envs.types import Failed, RewardQuery, Sample, Scored
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.worker import RewardActor
from reward_actors.restoration.running_batch import to_uint8


@dataclass(frozen=True)
class RestorationQuery(RewardQuery):
    """Asks for one restoration and its measures.

    weights: of scores, see `judge`. given: the picture of another method, uint8 (H, W, 3), for the task `given`.
    """

    task: Task = Task()
    weights: Mapping[str, str] = field(default_factory=dict, compare=False)
    given: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple:
        return (*super().key, self.task)


class RestorationActor(RewardActor):
    """A reward actor that measures what it restores, and pictures of other methods too.

    Answers are `Scored` whose parts are {"quality": Quality}.
    """

    async def score(self, query: RestorationQuery) -> Scored:
        """Restores and measures one query; raises what `RewardActor.score` does."""
        restoring = query.task.method == "diffusion"
        picture = (await super().score(query)).picture if restoring else None
        sample = await self._samples.fetch(query)
        loop = asyncio.get_running_loop()
        quality = await loop.run_in_executor(self._thread, self._measure, picture, sample, query)
        self._steps += 1  # it is alive
        return Scored(0.0, {"quality": quality}, self._name)

    def _measure(self, picture: np.ndarray | None, sample: Sample, query: RestorationQuery) -> Quality:
        picture = next(one for one in (picture, query.given, without_prior(query.task, sample)) if one is not None)
        quality = judge(picture, sample, query.task.scored, query.weights, self._prior.device)
        return replace(quality, picture=picture if query.task.shown else None)


def without_prior(task: Task, sample: Sample) -> np.ndarray:
    """Makes the picture of a task that needs no prior: uint8 (H, W, 3)."""
    if task.method == "classical":
        return to_uint8(physics(task.degradation.type).restore_classically(sample.degraded, task.degradation))
    if task.method == "blind":
        return to_uint8(physics(task.degradation.type).blind(sample.degraded))
    return sample.clean if task.method == "clean" else sample.degraded  # type: ignore[return-value]  # it has a truth


def restore_columns(
    config: Config, samples: Sequence[Sample], columns: Mapping[str, Sequence[Task]]
) -> dict[str, list[Quality]]:
    """Restores every sample under each column's task: {column: [a Quality a sample]}."""
    qualities = restore(config, samples, [pair for column in columns.values() for pair in enumerate(column)])
    return {name: [qualities[pair] for pair in enumerate(column)] for name, column in columns.items()}


def restore(
    config: Config,
    samples: Sequence[Sample],
    wanted: Sequence[tuple[int, Task]],
    foreign: Mapping[str, Path] = MappingProxyType({}),
) -> dict[tuple[int, Task], Quality]:
    """Restores samples on a reward pool of its own; equal tasks of a sample are done once.

    Args:
        wanted: (index of a sample, task) pairs.
        foreign: {name of a method: folder of its pictures}.

    Raises:
        UserError: the prior cannot be loaded, or the cluster cannot hold the actors.
        RuntimeError: a restoration failed.
    """
    return asyncio.run(_restore(config, samples, wanted, foreign))


async def _restore(
    config: Config, samples: Sequence[Sample], wanted: Sequence[tuple[int, Task]], foreign: Mapping[str, Path]
) -> dict:
    tasks: dict[int, list[Task]] = {}
    for index, task in dict.fromkeys(wanted):
        tasks.setdefault(index, []).append(task)
    weights = named_weights(config.reward)
    cheapest = replace(config.reward, scorer=["range"])  # the score itself is not looked at
    pool = RewardPool(replace(config, reward=cheapest), RestorationActor, memo=0)
    at_once = asyncio.Semaphore(config.reward.actors * config.reward.batch)  # samples in memory
    qualities = {}

    async def restore_one(index: int) -> None:
        async with at_once:
            sample = samples[index]
            shared = ray.put(sample)
            queries = [
                RestorationQuery(
                    *(sample.sample_id, shared, task.degradation, True),
                    task=task,
                    weights=weights,
                    given=given_picture(foreign[task.source], sample.sample_id) if task.source else None,
                )
                for task in tasks[index]
            ]
            for task, answer in zip(tasks[index], await pool.score(queries, priority=index), strict=True):
                if isinstance(answer, Failed):
                    raise RuntimeError(f"{sample.sample_id}, {task.method}: no restoration: {answer.reason}")
                qualities[index, task] = answer.parts["quality"]
            progress.advance(bar, len(queries))

    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("restorations", total=sum(map(len, tasks.values())))
        try:
            await pool.start()
            async with asyncio.TaskGroup() as group:
                for index in tasks:
                    group.create_task(restore_one(index))
        except* UserError as errors:
            raise errors.exceptions[0] from None
        finally:
            await pool.close()
    return qualities
