"""The process that restores: a thin Ray actor around one running batch."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import ray
import torch
from cachetools import LRUCache

from configs import UserError
from configs.cluster.profiling import Tracer, peak
from configs.schema import Reward
from envs.degradations import NONE, PHENOMENA
from envs.taxonomy import taxonomy
from envs.types import RewardQuery, Sample, Scored
from reward_actors.pool.batches import BatchedWorker, RejectedQueryError
from reward_actors.pool.stats import IDLE, Ready, Report
from reward_actors.priors.load import load_prior
from reward_actors.priors.unet import UNetPrior
from reward_actors.restoration.memory_budget import budget, measure, rows_within
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import RunningBatch, to_uint8
from reward_actors.scoring.scorer import check, fingerprint, prepare, score_batch

SAMPLES_KEPT = 256
WORLDS = tuple(taxonomy(types=[*PHENOMENA, NONE], camera=camera) for camera in (False, True))
"""The world in which the types have fewest keys, and the one in which they have most."""


FROM_HEADER = {"steps", "reduction"}
"""What the header of a JPEG file adds to an answer (`envs.degradations.jpeg.with_coding`)."""


class BatchError(RuntimeError):
    """The running batch broke; which of its rows is to blame, only a try alone can tell."""


class SampleError(RuntimeError):
    """A sample has been on its way for too long."""


@dataclass
class PendingQuery:
    """Holds a query in an actor until `result` is set. arrived: seconds, as `time.perf_counter`."""

    query: RewardQuery
    sample: Sample
    arrived: float = field(default_factory=time.perf_counter)
    result: asyncio.Future = field(default_factory=asyncio.Future)


class SampleFetcher:
    """Fetches samples out of the object store, each once: a few are kept, since a group shares one."""

    def __init__(self, seconds: float):
        """seconds: how long one may be on its way."""
        self._seconds, self._kept = seconds, LRUCache(SAMPLES_KEPT)

    async def fetch(self, query: RewardQuery) -> Sample:
        """Returns the sample of a query. Raises SampleError where it does not come."""
        if not isinstance(query.sample, ray.ObjectRef):
            return query.sample
        key = (query.sample_id, query.content)
        if (sample := self._kept.get(key)) is None:
            try:
                sample = self._kept[key] = await asyncio.wait_for(query.sample, self._seconds)
            except TimeoutError:
                waited = f"no sample in {self._seconds:g} s"
                raise SampleError(f"{query.sample_id}: {waited} from the object store") from None
        return sample


class RewardActor(BatchedWorker):
    """Takes queries at any time, steps them together, and answers each as soon as it is done."""

    def __init__(self, name: str, settings: Reward, size: int):
        super().__init__()
        torch.set_num_threads(1)
        self._name, self._settings, self._size = name, settings, size
        self._samples = SampleFetcher(settings.timeout / 2)  # long before the pool takes an actor for dead
        self._inbox: list[PendingQuery] = []
        self._active: dict[int, PendingQuery] = {}
        self._serials = itertools.count()
        self._report, self._steps = IDLE, 0
        self._thread = ThreadPoolExecutor(1, "restore")  # the event loop goes on accepting work during a step
        self._tracer, self._peak_seconds = Tracer(), 0.0  # of a picture in the denoiser
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
        if images < self._restorer.num_samples:
            raise UserError(
                f"reward.restorer={settings.restorer}: one restoration at {self._size} px needs "
                f"{self._restorer.num_samples} images in the denoiser, the memory holds {images} ({footprint}); "
                "set fewer reward.actors, or more reward.gpus each"
            )
        self._rows = min(settings.batch, images // self._restorer.num_samples)
        self._batch = self._new_batch()
        if isinstance(self._prior, UNetPrior) and self._restorer.denoiser == "prior":
            top = peak(self._prior.device, getattr(torch, settings.dtype))
            self._peak_seconds = self._prior.flops(self._size) / top
        shapes = f"{self._restorer.fingerprint(self._prior)}/{fingerprint(settings.scorer)}/{settings.noise}"
        return Ready(shapes, os.getpid(), self._rows)

    async def score(self, query: RewardQuery) -> Scored:
        """Restores and scores one query.

        Raises:
            RejectedQueryError: it is not one that can be restored (`check_query`).
            BatchError: a step failed with this query, and perhaps others, in it.
            SampleError: the sample does not come out of the object store.
            UserError: the scorer needs a truth that the sample lacks.
        """
        sample = await self._samples.fetch(query)
        check_query(query, sample)
        check(self._settings.scorer, sample)
        pending = PendingQuery(query, sample)
        self._inbox.append(pending)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return await pending.result

    def report(self) -> Report:
        """Returns what the actor has done since it started."""
        return self._report

    async def profile(self, folder: str) -> None:
        """Begins a trace of the steps, where `folder` is empty; else ends it and writes it there."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._tracer.turn, folder, self._name)

    async def steps(self) -> int:
        """Returns the steps taken so far: while they grow the actor is alive, long as a restoration may take."""
        return self._steps

    async def _run(self) -> None:
        """Steps until nothing is left; rows enter before and leave after every step."""
        loop = asyncio.get_running_loop()
        while self._inbox or self._active:
            started = time.perf_counter()
            denoiser, image_steps = self._batch.denoiser_seconds, self._batch.image_steps
            try:
                while self._inbox and self._batch.slots:
                    self._admit(self._inbox.pop(0))
                finished = await loop.run_in_executor(self._thread, self._step)
            except Exception as error:  # whatever broke the batch is told to everybody who waits for it
                self._abandon(error)
                continue
            self._steps += 1
            taken, image_steps = time.perf_counter() - started, self._batch.image_steps - image_steps
            self._report += Report(
                taken, self._batch.denoiser_seconds - denoiser, image_steps, peak=image_steps * self._peak_seconds
            )
            for serial, scored in finished:
                _set(self._active.pop(serial).result, scored)

    def _admit(self, pending: PendingQuery) -> None:
        serial = next(self._serials)
        self._active[serial] = pending
        query, sample = pending.query, pending.sample
        chosen = restorer(query.restorer) if query.restorer else None
        self._batch.add(serial, query.sample_id, sample.degraded, query.degradation, chosen, sample.noise)

    def _step(self) -> list[tuple[int, Scored | Exception]]:
        """Takes the batch one step further; returns the scores of the rows that it finishes, or why one has none."""
        finished = self._batch.step()
        if not finished:
            return []
        rows, pictures = [self._active[serial] for serial, _ in finished], [restored for _, restored in finished]
        results = map(self._result, rows, pictures, self._scores(rows, pictures))
        return [(serial, result) for (serial, _), result in zip(finished, results, strict=True)]

    def _scores(self, rows: list[PendingQuery], pictures: list[np.ndarray]) -> Sequence[tuple[float, dict] | Exception]:
        """Scores finished rows; where they cannot be scored together, each by itself, so that an error is its own."""
        samples, answers = [row.sample for row in rows], [row.query.degradation for row in rows]
        try:
            return score_batch(self._settings.scorer, pictures, samples, answers, self._prior.device)
        except Exception as error:
            if len(rows) == 1:
                return [error]
            return [self._scores([row], [one])[0] for row, one in zip(rows, pictures, strict=True)]

    def _result(
        self, row: PendingQuery, restored: np.ndarray, score: tuple[float, dict] | Exception
    ) -> Scored | Exception:
        if isinstance(score, Exception):
            return score
        picture = to_uint8(restored) if row.query.picture else None
        return Scored(*score, self._name, time.perf_counter() - row.arrived, picture=picture)

    def _abandon(self, error: Exception) -> None:
        broken, self._active, self._batch = self._active, {}, self._new_batch()
        for pending in broken.values():
            _set(pending.result, BatchError(f"{type(error).__name__}: {error}"))

    def _new_batch(self) -> RunningBatch:
        return RunningBatch(self._prior, self._restorer, self._rows, self._settings.noise)


def check_query(query: RewardQuery, sample: Sample) -> None:
    """Checks once more what the gate let through, for queries that did not come by it.

    Values out of range pass: a photograph larger than the policy's world has larger blurs.

    Raises:
        RejectedQueryError: a picture is not uint8 (H, W, 3), the clean one has another shape, or the degradation has
            an unknown type, wrong keys or a value that is no finite number.
    """
    given, clean, answer = sample.degraded, sample.clean, query.degradation
    for picture in (given,) if clean is None else (given, clean):
        if picture.dtype != np.uint8 or picture.shape != (*given.shape[:2], 3) or not picture.size:
            raise RejectedQueryError(
                f"{query.sample_id}: expected pictures of uint8 (H, W, 3), got {picture.dtype} {picture.shape}"
            )
    if answer is None:
        return
    unknown = [name for name in answer.types if name not in WORLDS[0]]
    needed, known = ({k.name for name in answer.types if name in world for k in world[name].keys} for world in WORLDS)
    keys = {name for name, _ in answer.values}
    if unknown or not needed <= keys <= known | FROM_HEADER:
        raise RejectedQueryError(f"{query.sample_id}: {answer.type} with {sorted(keys)} is no degradation")
    for name, value in answer.values:
        if not np.isfinite(np.asarray(value, dtype=float)).all():
            raise RejectedQueryError(f"{query.sample_id}: {name} is {value}, no finite number")


def _set(result: asyncio.Future, value: Scored | Exception) -> None:
    """Ends a query, if somebody waits for it still."""
    if result.done():
        return
    if isinstance(value, Exception):
        result.set_exception(value)
    else:
        result.set_result(value)
