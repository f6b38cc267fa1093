"""A light pool for the tests of sharing: actors that score a picture and an answer without restoring."""

import asyncio
import time

import numpy as np
import pytest

from benchmarks.throughput.loop.stubs import StandIn
from configs.schema import Config
from envs.taxonomy import TAXONOMY
from envs.types import RewardQuery, Sample, Scored

SECONDS = 0.03


def settings(**reward):
    config = Config(name="one")
    for name, value in ({"actors": 2, "batch": 1, "cpus": 0.05} | reward).items():
        setattr(config.reward, name, value)
    return config


def light():
    """Actors whose score depends on the picture and the answer; made here, so that they travel whole."""
    seconds = SECONDS

    class Light(StandIn):
        async def score(self, query):
            sample = query.sample if isinstance(query.sample, Sample) else await query.sample
            await asyncio.sleep(seconds)
            self._busy += seconds
            return Scored(float(sample.degraded.mean()) + query.degradation["sigma"], actor=self._name)

    return Light


def picture(grey):
    return Sample("picture", "photo", "train", np.full((8, 8, 3), grey, np.uint8))


def queries(sample, count, first=0):
    """Different queries about one picture, a `Sample` or a reference to one."""
    answers = [TAXONOMY.degradation("blur", {"sigma": 0.5 + 0.01 * i}) for i in range(first, first + count)]
    return [RewardQuery("picture", sample, answer) for answer in answers]


def right(answers, grey, first=0):
    values = [answer.reward for answer in answers]
    return values == pytest.approx([grey + 0.5 + 0.01 * i for i in range(first, first + len(values))])


async def until(holds, seconds=20.0):
    ends = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


async def told(pool, name):
    """What the pool itself says now."""
    return getattr(await pool._host.stats.remote(), name)
