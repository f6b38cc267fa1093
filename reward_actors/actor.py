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

from configs import UserError
from configs.schema import Reward
from envs.samples import RewardQuery, Sample, Scored
from reward_actors.batch import RunningBatch, to_uint8
from reward_actors.memo import Memo
from reward_actors.memory import budget, measure, rows_within
from reward_actors.parcels import ParcelActor
from reward_actors.priors import load_prior
from reward_actors.restorers import restorer
from reward_actors.scorers import check, fingerprint, prepare, score_batch
from reward_actors.stats import IDLE, Ready, Report

SAMPLES_KEPT = 256


class BatchError(RuntimeError):
    """The running batch broke; which of its rows is to blame, only a try alone can tell."""


class SampleError(RuntimeError):
    """A sample is on its way for too long."""


@dataclass
class _Waiting:
    query: RewardQuery
    sample: Sample
    arrived: float
    result: asyncio.Future


class RewardActor(ParcelActor):
    """Takes queries at any time, steps them together, and answers each as soon as it is done."""

    def __init__(self, name: str, settings: Reward, size: int):
        super().__init__()
        torch.set_num_threads(1)
        self._name, self._settings, self._size = name, settings, size
        self._samples = Memo(SAMPLES_KEPT)
        self._inbox: list[_Waiting] = []
        self._active: dict[int, _Waiting] = {}
        self._serial = itertools.count()
        self._report, self._steps = IDLE, 0
        self._thread = ThreadPoolExecutor(1, "restore")  # the event loop goes on accepting work during a step
        self._loop: asyncio.Task | None = None

    async def open(self) -> Ready:
        """Loads prior and restorer, and measures how many rows the memory holds, `reward.batch` at most.

        Raises:
            UserError: there is no such prior, restorer or scorer, or no room for a single row.
        """
        settings = self._settings
        device = "cuda" if settings.gpus else "cpu"
        self._prior = load_prior(settings.prior, self._size, device, settings.dtype)
        prepare(settings.scorer, self._prior.device)
        self._restorer = restorer(settings.restorer, settings.steps)
        footprint = measure(self._prior, self._size)
        images = rows_within(budget(settings), footprint)
        if images < self._restorer.draws:
            raise UserError(
                f"reward.restorer={settings.restorer}: one restoration at {self._size} px needs "
                f"{self._restorer.draws} images in the denoiser, the memory holds {images} ({footprint}); "
                "set fewer reward.actors, or more reward.gpus each"
            )
        self._rows = min(settings.batch, images // self._restorer.draws)
        self._batch = self._new_batch()
        shapes = f"{self._restorer.fingerprint(self._prior)}/{fingerprint(settings.scorer)}"
        return Ready(shapes, os.getpid(), self._rows)

    async def score(self, query: RewardQuery) -> Scored:
        """Restores and scores one query.

        Raises:
            BatchError: a step failed with this query, and perhaps others, in it.
            SampleError: the sample does not come out of the object store.
            UserError: the scorer needs a truth that the sample lacks.
        """
        sample = await self._fetch(query)
        check(self._settings.scorer, sample)
        waiting = _Waiting(query, sample, time.perf_counter(), asyncio.Future())
        self._inbox.append(waiting)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return await waiting.result

    def report(self) -> Report:
        return self._report

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
        if not finished:
            return []
        rows, pictures = [self._active[serial] for serial, _ in finished], [restored for _, restored in finished]
        samples, answers = [row.sample for row in rows], [row.query.degradation for row in rows]
        scores = score_batch(self._settings.scorer, pictures, samples, answers, self._prior.device)
        now = time.perf_counter()
        return [
            (serial, Scored(reward, parts, self._name, now - row.arrived, picture=_wanted(row.query, restored)))
            for (serial, restored), row, (reward, parts) in zip(finished, rows, scores, strict=True)
        ]

    def _abandon(self, error: Exception) -> None:
        broken, self._active, self._batch = self._active, {}, self._new_batch()
        for waiting in broken.values():
            if not waiting.result.done():
                waiting.result.set_exception(BatchError(f"{type(error).__name__}: {error}"))

    def _new_batch(self) -> RunningBatch:
        return RunningBatch(self._prior, self._restorer, self._rows)

    async def _fetch(self, query: RewardQuery) -> Sample:
        """The picture, from the object store once; a few are kept, since a group shares one."""
        if not isinstance(query.sample, ray.ObjectRef):
            return query.sample
        known = (query.sample_id, query.content)
        if (sample := self._samples.get(known)) is None:
            try:
                sample = await asyncio.wait_for(_awaited(query.sample), self._settings.timeout)
            except TimeoutError:  # said in a class of our own: the pool takes a TimeoutError for a dead actor
                waited = f"no sample in {self._settings.timeout:g} s"
                raise SampleError(f"{query.sample_id}: {waited} from the object store") from None
            self._samples.put(known, sample)
        return sample


def _wanted(query: RewardQuery, restored: np.ndarray) -> np.ndarray | None:
    return to_uint8(restored) if query.picture else None


async def _awaited(reference: ray.ObjectRef) -> Sample:
    return await reference
