"""What travels between the processes of the loop: bytes a sample and hop, and how often an image does.

The messages are those of the real loop, with pictures of `world.size`; their sizes are what Ray would write. In a run
of the loop with stages that take no time the samples count how often they are put into the object store, and the
reward actors how often they take one out of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from rich.console import Console
from rich.table import Table

from benchmarks.throughput.loop.run import run_loop
from benchmarks.throughput.loop.shape import Shape, Times
from benchmarks.throughput.loop.stubs import StandIn
from configs.cluster.connect import connect
from configs.schema import Config
from envs.language.answer import write
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Group, Prompt, RewardQuery, Sample, Scored
from learner.losses import Trajectory
from learner.policy.collator import Example
from reward_actors.pool.batches import Answer, Finished
from reward_actors.pool.stats import Report

SHAPE = Shape(prompts=8, group_size=8, in_flight=8, actors=2, rows=16)
STEPS = 4
TOKENS = 12
"""Of a completion, as the shipped policy writes them."""


class CountingSamples(Sequence):
    """Counts how often each is drawn: the loop draws one to put it into the object store."""

    def __init__(self, size: int, count: int):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        (answer,) = TAXONOMY.examples(1)
        clean = image.copy()  # pickle would write one array only once
        self._samples = [Sample(f"picture-{i}", f"{i}", "train", image, clean, answer) for i in range(count)]
        self.drawn = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        self.drawn += 1
        return self._samples[index]


class Fetching(StandIn):
    """Takes the picture, as a reward actor does, and answers at once."""

    async def score(self, query: RewardQuery) -> Scored:
        sample = await query.sample
        return Scored(-float(sample.degraded[0, 0, 0]), actor=self._name)


def run(config: Config) -> dict:
    """Returns bytes by hop, and how often a picture crossed the object store."""
    connect()
    samples = CountingSamples(config.world.size, STEPS * SHAPE.prompts)
    with tempfile.TemporaryDirectory() as folder:
        times = Times([0.0], [0.0], [0.0])
        run_loop(config, SHAPE, times, STEPS, Path(folder, "run"), samples, Fetching)
    prompts = STEPS * SHAPE.prompts
    figures: dict[str, Any] = {"crossings": samples.drawn / prompts, "image_bytes": 3 * config.world.size**2}
    figures["hops"] = hops(samples[0], SHAPE.group_size)
    table = Table("hop", "messages a sample", "bytes each", "bytes a sample")
    for name, (count, size) in figures["hops"].items():
        table.add_row(name, str(count), f"{size:,}", f"{count * size:,}")
    headline = f"a picture crosses the object store {figures['crossings']:g} times (bar 1)"
    Console(width=120).print(table, headline, sep="\n")
    return figures


def hops(sample: Sample, group: int) -> dict[str, tuple[int, int]]:
    """{hop: (messages a sample, bytes of one)}, a group's queries all to one actor; the process must be connected."""
    prompt = Prompt(sample.sample_id, ray.put(sample))
    rng, tokens = np.random.default_rng(0), tuple(range(TOKENS))
    logprobs = [tuple(rng.normal(size=TOKENS).tolist()) for _ in range(group)]
    answers = TAXONOMY.examples(group)
    written = [
        Completion(write(answer, TAXONOMY), tuple(1 + i + token for token in tokens), each)
        for i, (answer, each) in enumerate(zip(answers, logprobs, strict=True))
    ]
    batch = [(i, RewardQuery(prompt.sample_id, prompt.sample, answer)) for i, answer in enumerate(answers)]
    scored = Scored(-0.01, {"mse": 0.01, "psnr": 20.0}, "reward-0", 0.5)
    finished = Finished(tuple(Answer(i, scored) for i in range(group)), Report(1.0, 0.5, 10))
    learned = [Trajectory(Example(prompt.sample, c.token_ids), c.logprobs, 0.5, 1) for c in written]
    return {
        "driver to object store: the sample, uint8": (1, _bytes(sample)),
        "driver to engine: the prompt, by reference": (1, _bytes((prompt, group, 1, 64, 1.0, False, False))),
        "engine to driver: the group": (1, _bytes(Group(prompt, tuple(written), 1, 0.5))),
        "driver to reward actor: its queries, by reference": (1, _bytes(batch)),
        "reward actor to driver: their scores": (1, _bytes(finished)),
        "driver to learner: the trajectories, by reference": (1, _bytes(learned)),
    }


def _bytes(message) -> int:
    """Of a message as Ray writes it."""
    from ray._private.worker import global_worker  # Ray has no public name for it

    return global_worker.get_serialization_context().serialize(message).total_bytes
