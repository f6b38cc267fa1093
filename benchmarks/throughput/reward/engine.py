"""Where the time of a reward actor goes at full load: in the denoiser, or beside it.

One actor, its queue never empty; the pictures of a corpus at their true parameters, types in turn. `denoiser` is
the share of the wall clock, `of_busy` that of the seconds in which the actor was at work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import ray
from rich.console import Console

from configs import UserError
from configs.cluster.connect import connect
from configs.schema import Config
from envs.corpus.reader import read_samples
from envs.types import RewardQuery, Sample
from envs.world import world_taxonomy
from reward_actors.pool.pool import RewardPool

BOUND = 0.90
RESTORERS = {"ddnm": 20, "fast": 1}
"""Steps of each; the share of a step does not depend on how many there are."""
QUERIES = {"ddnm": 48, "fast": 256}


def run(config: Config) -> dict:
    """Measures the restorers on the split of `corpus`, `reward.batch` rows at a time."""
    if not config.corpus:
        raise UserError("engine: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    samples = read_samples(config.corpus, config.split, world_taxonomy(config.world))
    most = max(QUERIES.values())
    if len(samples) < most:
        raise UserError(f"engine: expected at least {most} samples in the split {config.split}, got {len(samples)}")
    connect()
    figures = {}
    for name, steps in RESTORERS.items():
        reward = replace(config.reward, actors=1, max_actors=0, restorer=name, steps=steps, scorer=["mse"])
        chosen = [samples[index] for index in range(QUERIES[name])]
        found = figures[name] = asyncio.run(_measure(replace(config, reward=reward), chosen))
        Console(width=120).print(
            f"{name}: denoiser {found['denoiser']:.3f} of the wall clock (bar {BOUND:g}), "
            f"{found['of_busy']:.3f} of the busy time, {found['image_steps_per_second']:.1f} image-steps/s"
        )
    return figures


async def _measure(config: Config, samples: Sequence[Sample]) -> dict:
    pool = RewardPool(config)
    try:
        await pool.start()
        queries = [RewardQuery(sample.sample_id, ray.put(sample), sample.degradation) for sample in samples]
        await pool.score([replace(query, sample_id="warm") for query in queries[:1]])
        before, began = pool.stats(), time.perf_counter()
        await pool.score(queries)
        wall, after = time.perf_counter() - began, pool.stats()
    finally:
        await pool.close()
    denoiser = after.denoiser_seconds - before.denoiser_seconds
    busy = sum(after.busy.values()) - sum(before.busy.values())
    return {
        "denoiser": denoiser / wall,
        "of_busy": denoiser / busy,
        "seconds": wall,
        "image_steps_per_second": (after.image_steps - before.image_steps) / wall,
    }
