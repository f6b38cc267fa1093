"""The process that restores: a thin Ray actor around one running batch."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from configs import UserError
from configs.schema import Reward
from envs.types import RewardQuery, Scored
from reward_actors.pool.fetching import Samples
from reward_actors.pool.parcels import ParcelActor
from reward_actors.pool.stats import IDLE, Ready, Report
from reward_actors.pool.waiting import Waiting
from reward_actors.priors.base import load_prior
from reward_actors.restoration.memory_budget import budget, measure, rows_within
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import RunningBatch
from reward_actors.scoring.scorer import check, fingerprint, prepare, score_batch


class BatchError(RuntimeError):
    """The running batch broke; which of its rows is to blame, only a try alone can tell."""


class RewardActor(ParcelActor):
    """Takes queries at any time, steps them together, and answers each as soon as it is done."""

    def __init__(self, name: str, settings: Reward, size: int):
        super().__init__()
        torch.set_num_threads(1)
        self._name, self._settings, self._size = name, settings, size
        self._samples = Samples(settings.timeout / 2)  # long before the pool takes an actor without a step for dead
        self._inbox: list[Waiting] = []
        self._active: dict[int, Waiting] = {}
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
        prepare(settings.scorer, self._size, self._prior.device)
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
        sample = await self._samples.of(query)
        check(self._settings.scorer, sample)
        waiting = Waiting(query, sample)
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
                self._active.pop(serial).answer(scored)

    def _admit(self, waiting: Waiting) -> None:
        serial = next(self._serial)
        self._active[serial] = waiting
        query = waiting.query
        self._batch.add(serial, query.sample_id, waiting.sample.degraded, query.degradation)

    def _step(self) -> list[tuple[int, Scored | Exception]]:
        """One step of the batch: the scores of the rows that it finishes, or why a row has none."""
        finished = self._batch.step()
        if not finished:
            return []
        rows, pictures = [self._active[serial] for serial, _ in finished], [restored for _, restored in finished]
        scores = self._scores(rows, pictures)
        return [
            (serial, score if isinstance(score, Exception) else row.scored(*score, self._name, restored))
            for (serial, restored), row, score in zip(finished, rows, scores, strict=True)
        ]

    def _scores(self, rows: list[Waiting], pictures: list[np.ndarray]) -> list[tuple[float, dict] | Exception]:
        """Of finished rows; where they cannot be scored together, of each by itself, so that an error is its own."""
        samples, answers = [row.sample for row in rows], [row.query.degradation for row in rows]
        try:
            return score_batch(self._settings.scorer, pictures, samples, answers, self._prior.device)
        except Exception as error:
            if len(rows) == 1:
                return [error]
            return [self._scores([row], [one])[0] for row, one in zip(rows, pictures, strict=True)]

    def _abandon(self, error: Exception) -> None:
        broken, self._active, self._batch = self._active, {}, self._new_batch()
        for waiting in broken.values():
            waiting.answer(BatchError(f"{type(error).__name__}: {error}"))

    def _new_batch(self) -> RunningBatch:
        return RunningBatch(self._prior, self._restorer, self._rows)
