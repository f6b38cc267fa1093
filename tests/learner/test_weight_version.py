"""Which version a replaced engine's completions carry: the real pools and the real learner over actors that sleep."""

import asyncio
import json
import os
import signal
import time

import pytest

from benchmarks.throughput.loop.stubs import SleepingEngine, SleepingWorker
from configs import load
from envs.types import Prompt
from learner.distributed.group import LearnerGroup
from learner.distributed.weight_source import LearnerWeights
from rollout.pool import RolloutPool

pytestmark = pytest.mark.engine
STEP_SECONDS = 3.0


def test_an_engine_replaced_during_a_step_carries_the_version_whose_weights_it_got(ray_cluster, tmp_path):
    (tmp_path / "sleeps.json").write_text(json.dumps({"group": 0.05, "learner": STEP_SECONDS}))
    settings = ["rollout.cpus=0.01", "learner.cpus=0.01", "learner.ranks=2", "rollout.actors=2"]
    config = load("offline", [*settings, "rollout.in_flight=1", "grpo.max_staleness=1"])
    prompts = [Prompt(f"picture-{i}", i) for i in range(24)]

    async def scene():
        learner = await asyncio.to_thread(LearnerGroup, config, tmp_path, 2, worker_class=SleepingWorker)
        pool = RolloutPool(config, tmp_path, actor_class=SleepingEngine)
        try:
            await pool.start()
            await pool.update(LearnerWeights(learner))
            step = asyncio.create_task(asyncio.to_thread(learner.grpo_step, [None, None]))
            await asyncio.sleep(0.5)
            os.kill(await pool.engines[0].ready.remote(), signal.SIGKILL)
            during = [group.weight_version async for group in pool.sample(prompts) if not step.done()]
            while pool.stats().updates < 2:  # the engine that came anew has its weights
                await asyncio.sleep(0.1)
            assert step.done()  # they were sent after the step that was under way
            after = [group.weight_version async for group in pool.sample(prompts)]
            return during, after, await pool.update(LearnerWeights(learner))
        finally:
            await pool.close()
            learner.close()

    during, after, version = asyncio.run(asyncio.wait_for(scene(), 120))
    assert set(during) == {0}
    assert set(after) == {0, 1}  # the other engine still has the older ones, and says so
    assert version == 1


def test_steps_and_sending_take_turns_on_all_ranks(ray_cluster, tmp_path):
    (tmp_path / "sleeps.json").write_text(json.dumps({"group": 0.0, "learner": 1.0}))
    config = load("offline", ["learner.cpus=0.01", "learner.ranks=2"])

    async def scene():
        learner = await asyncio.to_thread(LearnerGroup, config, tmp_path, 2, worker_class=SleepingWorker)
        try:
            step = asyncio.create_task(asyncio.to_thread(learner.grpo_step, [None, None]))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            return await asyncio.to_thread(learner.send_weights, [], True), time.monotonic() - began, step.done()
        finally:
            learner.close()

    version, waited, done = asyncio.run(scene())
    assert version == 1
    assert waited > 0.5
    assert done
