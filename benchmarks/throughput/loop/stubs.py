"""Ray actors that sleep in the place of an engine, a learner's rank and a reward actor, so that the rest is measured.

How long engine and rank sleep is in `sleeps.json` of the folder that a policy would be in; a reward actor sleeps as
long as its query says. Imports no torch: a worker process starts in a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from configs.schema import Config, Reward
from envs.language.answer import write
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Group, Prompt, RewardQuery, Scored
from reward_actors.pool.batches import BatchedWorker
from reward_actors.pool.stats import Ready, Report


class SleepingEngine:
    """In the place of a `RolloutActor`."""

    def __init__(self, folder: str, config: Config):
        self._seconds, self._version = json.loads(Path(folder, "sleeps.json").read_text())["group"], 0
        texts = [write(answer, TAXONOMY) for answer in TAXONOMY.examples(config.rollout.group_size)]
        self._completions = tuple(Completion(text, (1, 2, 3), (0.0, 0.0, 0.0)) for text in texts)

    async def ready(self) -> int:
        return os.getpid()

    async def generate(self, prompt: Prompt, *_) -> Group:
        await asyncio.sleep(self._seconds)
        return Group(prompt, self._completions, self._version, self._seconds)

    async def begin_update(self) -> None: ...

    async def finish_update(self, version: int) -> None:
        self._version = version

    async def close(self) -> None: ...


class SleepingWorker:
    """In the place of a `LearnerWorker`; it has no weights."""

    def __init__(self, rank: int, config: Config):
        self._rank = rank

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", 0

    def start(self, address, folder: str, total_steps: int, reference) -> None:
        from rollout.weights.manifest import Manifest  # here and now: to import torch is no part of an update

        self._seconds = json.loads(Path(folder, "sleeps.json").read_text())["learner"]
        self._manifest = Manifest((), (), ())

    def grpo_step(self, trajectories: Sequence) -> dict[str, float]:
        time.sleep(self._seconds)
        return {"seconds": self._seconds}

    def weight_manifest(self):
        return self._manifest

    def send_weights(self, engines: Sequence, whole: bool, version: int) -> None:
        if self._rank == 0:
            for method, given in (("begin_update", ()), ("finish_update", (version,))):
                ray.get([getattr(engine, method).remote(*given) for engine in engines])

    def save(self, folder: str) -> None: ...

    def save_policy(self, folder: str) -> None: ...


class StandIn(BatchedWorker):
    """Takes `reward.batch` queries at a time; each lasts as many seconds as its `sample` (or the object it refers to)
    says."""

    def __init__(self, name: str, settings: Reward, size: int):
        super().__init__()
        self._name, self._rows, self._busy = name, settings.batch, 0.0
        self._slots = asyncio.Semaphore(settings.batch)

    async def open(self) -> Ready:
        return Ready("stand-in", os.getpid(), self._rows)

    async def score(self, query: RewardQuery) -> Scored:
        seconds = await query.sample if isinstance(query.sample, ray.ObjectRef) else query.sample
        async with self._slots:
            await asyncio.sleep(seconds)
        self._busy += seconds
        return Scored(-seconds, actor=self._name, seconds=seconds)

    def report(self) -> Report:
        return Report(self._busy)

    async def steps(self) -> int:
        return time.monotonic_ns()
