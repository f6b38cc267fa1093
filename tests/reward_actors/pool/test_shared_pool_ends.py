"""What becomes of a shared pool's jobs when it, or one of them, is killed: a real cluster, real Ray actors."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sharing import light, picture, queries, right, settings, told, until

from reward_actors.pool.shared import connect
from reward_actors.pool.shared.client import SharedPool
from reward_actors.pool.shared.job import create
from reward_actors.pool.stats import Counts

ROOT = Path(__file__).parents[3]


@pytest.mark.engine
@pytest.mark.chaos
def test_a_pool_that_comes_back_is_asked_again_and_one_that_does_not_is_a_curable_error(ray_cluster, monkeypatch):
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 20.0)
    mortal = replace(settings(actors=1), name="mortal")

    async def work():
        first = create(mortal, actor_class=light())
        await first.open.remote()
        processes, pool = await first.processes.remote(), SharedPool(settings(pool="mortal"))
        await pool.start()
        scoring = [asyncio.create_task(pool.score(queries(picture(60), 20, first=n))) for n in (0, 20)]
        await until(lambda: told(pool, "queued"))
        ray_cluster.kill(first)
        await until(lambda: _gone(processes))  # nothing of it is left
        second = create(mortal, actor_class=light())
        await second.open.remote()
        answers = await asyncio.gather(*scoring)
        ray_cluster.kill(second)
        monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.2)
        with pytest.raises(TimeoutError, match="reward.pool=mortal"):
            await pool.score(queries(picture(61), 1))
        await pool.close()
        return answers

    async def _gone(processes):
        return not any(psutil.pid_exists(pid) for pid in processes.values())

    first, second = asyncio.run(asyncio.wait_for(work(), 100))
    assert right(first, 60)
    assert right(second, 60, first=20)


ELSEWHERE = """
import asyncio, sys
import ray
from configs.schema import Config
from reward_actors.pool.shared.client import SharedPool
from sharing import picture, queries, settings

async def work():
    pool = SharedPool(settings(pool="shared"))
    await pool.start()
    print("asking", flush=True)
    await pool.score(queries(ray.put(picture(70)), 100))

ray.init(address=sys.argv[1], log_to_driver=False)
asyncio.run(work())
"""


@pytest.mark.engine
@pytest.mark.chaos
def test_of_a_job_that_is_killed_nothing_stays_queued_and_who_waits_for_the_same_gets_it(share, host, ray_cluster):
    """The pictures of the dead job, which it owned, die with it."""
    address = ray_cluster.get_runtime_context().gcs_address
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    other = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )

    async def work(a, b):
        assert b"asking" in await asyncio.to_thread(other.stdout.readline)
        await until(lambda: told(a, "queued"))
        scoring = asyncio.create_task(a.score(queries(picture(70), 10, first=90)))
        await until(lambda: _shared(a))
        os.kill(other.pid, signal.SIGKILL)
        answers = await scoring
        await until(lambda: _only(a))
        return answers, await a._host.stats.remote()

    async def _shared(pool):
        return (await pool._host.stats.remote()).clients.get(pool._client, Counts()).shared == 10

    async def _only(pool):
        return list((await pool._host.stats.remote()).clients) == [pool._client]

    answers, stats = share(work)
    assert right(answers, 70, first=90)
    assert stats.queued == 0
