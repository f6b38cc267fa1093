"""The process that restores: a thin Ray actor around one running batch."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import ray
import torch

from configs.schema import Reward
from envs.samples import RewardQuery, Sample, Scored
from reward_actors.batch import RunningBatch
from reward_actors.memo import Memo
from reward_actors.priors import load_prior
from reward_actors.restorers import restorer
from reward_actors.scorers import check, score

SAMPLES_KEPT = 256


class BatchError(RuntimeError):
    """The running batch broke; which of its rows is to blame, only a try alone can tell."""


@dataclass(frozen=True)
class Report:
    """What an actor has done since it started: seconds at work, seconds in the denoiser, image-steps."""

    busy: float = 0.0
    denoiser: float = 0.0
    image_steps: int = 0

    def __add__(self, other: Report) -> Report:
        return Report(
            self.busy + other.busy, self.denoiser + other.denoiser, self.image_steps + other.image_steps
        )


IDLE = Report()


@dataclass
class _Waiting:
    query: RewardQuery
    sample: Sample
    arrived: float
    result: asyncio.Future


class RewardActor:
    """Takes queries at any time, steps them together, and answers each as soon as it is done."""

    def __init__(self, name: str, settings: Reward, size: int):
        torch.set_num_threads(1)
        self._name, self._settings, self._size = name, settings, size
        self._samples = Memo(SAMPLES_KEPT)
        self._inbox: list[_Waiting] = []
        self._active: dict[int, _Waiting] = {}
        self._serial = itertools.count()
        self._report, self._steps = IDLE, 0
        self._thread = ThreadPoolExecutor(1, "restore")  # the event loop goes on accepting work during a step
        self._loop: asyncio.Task | None = None

    async def open(self) -> tuple[str, int]:
        """Loads prior and restorer. Returns a fingerprint of all that shapes a score, and the process id.

        Raises:
            UserError: there is no such prior or restorer.
        """
        settings = self._settings
        self._prior = load_prior(settings.prior, self._size, "cuda" if settings.gpus else "cpu")
        self._restorer = restorer(settings.restorer, settings.steps, settings.eta)
        self._batch = self._new_batch()
        return f"{self._restorer.fingerprint(self._prior)}/{settings.scorer}", os.getpid()

    async def score(self, query: RewardQuery) -> tuple[Scored, Report]:
        """Restores and scores one query.

        Raises:
            BatchError: a step failed with this query, and perhaps others, in it.
            UserError: the scorer needs a truth that the sample lacks.
        """
        sample = await self._fetch(query)
        check(self._settings.scorer, sample)
        waiting = _Waiting(query, sample, time.perf_counter(), asyncio.Future())
        self._inbox.append(waiting)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return await waiting.result, self._report

    async def steps(self) -> int:
        """Steps taken since the start: while they grow the actor is alive, long as a restoration may take."""
        return self._steps

    async def _run(self) -> None:
        """Steps until nothing is left; rows enter before and leave after every step."""
        loop = asyncio.get_running_loop()
        while self._inbox or self._active:
            started = time.perf_counter()
            denoiser, image_steps = self._batch.denoiser_seconds, self._batch.image_steps
            try:
                while self._inbox and self._batch.room:
                    self._admit(self._inbox.pop(0))
                finished = await loop.run_in_executor(self._thread, self._step)
            except Exception as error:  # whatever broke the batch is told to everybody who waits for it
                self._abandon(error)
                continue
            self._steps += 1
            self._report += Report(
                time.perf_counter() - started,
                self._batch.denoiser_seconds - denoiser,
                self._batch.image_steps - image_steps,
            )
            for serial, scored in finished:
                waiting = self._active.pop(serial)
                if not waiting.result.done():
                    waiting.result.set_result(scored)

    def _admit(self, waiting: _Waiting) -> None:
        serial = next(self._serial)
        self._active[serial] = waiting
        query = waiting.query
        self._batch.add(serial, query.sample_id, waiting.sample.degraded, query.degradation)

    def _step(self) -> list[tuple[int, Scored]]:
        finished = self._batch.step()
        return [(serial, self._score(self._active[serial], restored)) for serial, restored in finished]

    def _score(self, waiting: _Waiting, restored: np.ndarray) -> Scored:
        reward, parts = score(self._settings.scorer, restored, waiting.sample, waiting.query.degradation)
        return Scored(reward, parts, self._name, time.perf_counter() - waiting.arrived)

    def _abandon(self, error: Exception) -> None:
        broken, self._active, self._batch = self._active, {}, self._new_batch()
        for waiting in broken.values():
            if not waiting.result.done():
                waiting.result.set_exception(BatchError(f"{type(error).__name__}: {error}"))

    def _new_batch(self) -> RunningBatch:
        return RunningBatch(self._prior, self._restorer, self._settings.batch)

    async def _fetch(self, query: RewardQuery) -> Sample:
        """The picture, from the object store once; a few are kept, since a group shares one."""
        if not isinstance(query.sample, ray.ObjectRef):
            return query.sample
        if (sample := self._samples.get(query.sample_id)) is None:
            sample = await query.sample
            self._samples.put(query.sample_id, sample)
        return sample
