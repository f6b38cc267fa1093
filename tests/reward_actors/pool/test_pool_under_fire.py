"""Reward actors are killed again and again while they restore. Minutes, because 2,000 restorations are."""

import asyncio
import os
import random
import signal
import time

import pytest

from configs.schema import Config
from envs.taxonomy import TAXONOMY
from envs.types import RewardQuery, Scored
from reward_actors.pool.pool import RewardPool
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import score

STEPS, QUERIES, KILL_SECONDS = 10, 2000, 3.0


@pytest.mark.chaos
@pytest.mark.slow
def test_2000_queries_under_fire_score_as_if_nothing_had_happened(ray_cluster, samples):
    """Nothing lost, nothing scored twice, every score equal to that of a restoration here, undisturbed."""
    blurred = next(sample for sample in samples if sample.degradation.type == "blur")
    answers = [TAXONOMY.degradation("blur", {"sigma": 0.5 + 0.01 * i}) for i in range(500)]
    asked = [(f"picture-{i}", answer) for i in range(QUERIES // len(answers)) for answer in answers]
    config = Config()
    config.world.size = 64
    for name, value in {"actors": 3, "cpus": 0.1, "batch": 8, "restorer": "ddnm", "steps": STEPS}.items():
        setattr(config.reward, name, value)
    config.reward.prior = "gaussian"

    async def fire(pool):
        kills, chance = 0, random.Random(0)
        while True:
            await asyncio.sleep(KILL_SECONDS)
            if processes := list(pool.processes().values()):
                os.kill(chance.choice(processes), signal.SIGKILL)
                kills += 1
            print(f"{time.strftime('%X')} {kills} kills, {pool.stats()}", flush=True)

    async def work():
        pool, reference = RewardPool(config), ray_cluster.put(blurred)
        try:
            await pool.start()
            shooting = asyncio.create_task(fire(pool))
            scored = await pool.score([RewardQuery(name, reference, answer) for name, answer in asked])
            shooting.cancel()
            return scored, pool.stats()
        finally:
            await pool.close()

    scored, stats = asyncio.run(work())
    assert all(isinstance(answer, Scored) for answer in scored)
    assert (stats.scored, stats.failed, stats.memo_hits) == (QUERIES, 0, 0)
    assert stats.restarts >= 5
    names, degradations = [name for name, _ in asked], [answer for _, answer in asked]
    pictures = [blurred.degraded] * QUERIES
    restored = restore_batch(photo_gaussian(64), restorer("ddnm", STEPS), pictures, degradations, names)
    expected = [score("mse", one, blurred, answer)[0] for one, answer in zip(restored, degradations, strict=True)]
    assert [answer.reward for answer in scored] == pytest.approx(expected, abs=1e-6)
