"""A pool that several jobs share: a real cluster, real Ray actors, which score pictures without restoring them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.throughput.stand_in import StandIn
from configs import UserError, control
from configs.resources import plan
from configs.schema import Config
from envs.samples import RewardQuery, Sample, Scored
from envs.taxonomy import TAXONOMY
from reward_actors import client as clients
from reward_actors.client import SharedPool, open_pool
from reward_actors.host import Offer, check_shaping, shaping
from reward_actors.hosting import create, line
from reward_actors.pool import RewardPool

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="module")
def host(ray_cluster):
    """A pool `shared` of one actor that holds one query; a client that is silent for two seconds counts as dead."""
    host = create(replace(settings(actors=1), name="shared"), silent=2.0, actor_class=light())
    ray_cluster.get(host.open.remote())
    yield host
    ray_cluster.kill(host)


@pytest.fixture
def share(host, ray_cluster):
    """Runs `work(a, b)` on two clients of the pool; afterwards they are gone, and the pool is not."""

    def run(work):
        async def scene():
            pools = [open_pool(settings(pool="shared")) for _ in "ab"]
            try:
                await asyncio.gather(*(pool.start() for pool in pools))
                return await asyncio.wait_for(work(*pools), 60)
            finally:
                await asyncio.gather(*(pool.close() for pool in pools))

        before = ray_cluster.get(host.processes.remote())
        result = asyncio.run(scene())
        stats = ray_cluster.get(host.stats.remote())
        assert (stats.queued, stats.clients) == (0, {})
        assert ray_cluster.get(host.processes.remote()) == before
        return result

    return run


def test_a_job_that_names_a_pool_has_no_reward_actors_of_its_own():
    assert isinstance(open_pool(settings(pool="shared")), SharedPool)
    assert isinstance(open_pool(settings()), RewardPool)
    for job in ("offline", "online", "ablate"):
        assert [role.name for role in plan(settings(pool="shared"), job).roles] == ["rollout engine", "learner rank"]
    assert [role.count for role in plan(settings(actors=5), "rewards").roles] == [5]


def test_a_pool_whose_scores_differ_is_refused_with_all_that_differs():
    here = settings(restorer="ddnm", scorer=["mse", "ssim:2"])
    with pytest.raises(UserError) as refused:
        check_shaping("shared", shaping(settings()), shaping(here))
    assert "reward.restorer=ddnm (there fast), reward.scorer=[mse,ssim:2] (there [mse])" in str(refused.value)
    assert "set reward.restorer=fast reward.scorer=[mse], or" in str(refused.value)
    check_shaping("shared", shaping(settings()), shaping(settings(actors=9, batch=4, pool="shared", cpus=1.0)))


def test_a_pool_that_comes_back_with_another_prior_is_refused_so_that_one_job_has_one_reward():
    pool = SharedPool(settings(pool="shared"))
    for fingerprint in ("old", "old"):
        pool._accept(Offer(shaping(settings()), fingerprint))
    with pytest.raises(UserError, match="loaded another prior"):
        pool._accept(Offer(shaping(settings()), "new"))


def test_a_score_is_shared_by_equal_pictures_only():
    contents = {picture(grey).content() for grey in (1, 1, 2)}
    assert len(contents) == 2
    assert replace(picture(1), clean=picture(1).degraded).content() not in contents
    assert replace(picture(1), degraded=np.full((4, 16, 3), 1, np.uint8)).content() not in contents
    assert RewardQuery("a", None, content="x").key != RewardQuery("a", None, content="y").key


@pytest.mark.engine
def test_equal_queries_of_two_jobs_are_restored_once_and_other_pictures_of_that_name_apart(share, ray_cluster):
    async def work(a, b):
        same = [ray_cluster.put(picture(10)) for _ in "ab"]  # each job has its own copy
        pairs = [(a, queries(same[0], 10)), (b, queries(same[1], 10)), (b, queries(picture(20), 5))]
        answers = await asyncio.gather(*(pool.score(asked) for pool, asked in pairs))
        again = await a.score(queries(picture(20), 5))
        return answers, again, a.stats(), b.stats()

    (first, second, other), again, a, b = share(work)
    assert right(first, 10)
    assert right(second, 10)
    assert right(other, 20)
    assert right(again, 20)
    assert all(answer.cached for answer in again)
    assert (a.asked, a.memo_hits, b.asked) == (15, 5, 15)
    assert a.scored + b.scored == 15
    assert a.shared + b.shared == 10


@pytest.mark.engine
def test_while_both_wait_each_gets_half_and_low_numbers_of_one_do_not_overtake_the_other(share):
    async def work(a, b):
        greedy = asyncio.create_task(a.score(queries(picture(30), 80), priority=0))
        await until(lambda: _true(a, "queued"))
        modest = await b.score(queries(picture(40), 20), priority=7)
        done = (await a._host.stats.remote()).clients[a._client].scored
        return done, await greedy, modest

    done, greedy, modest = share(work)
    assert 17 <= done <= 40  # those before the other came, and as many as it got
    assert right(greedy, 30)
    assert right(modest, 40)


async def _true(pool, name):
    return getattr(await pool._host.stats.remote(), name)


@pytest.mark.engine
def test_what_a_client_leaves_behind_is_dropped_unless_another_waits_for_it(share):
    async def work(a, b):
        leaving = asyncio.create_task(a.score(queries(picture(50), 60)))
        await until(lambda: _true(a, "queued"))
        staying = asyncio.create_task(b.score(queries(picture(50), 5, first=40)))
        await until(lambda: _shared(b))
        before = (await b._host.stats.remote()).scored
        await a.close()
        stats = await b._host.stats.remote()
        answers = await staying
        scored = (await b._host.stats.remote()).scored - before
        gone = {answer.reason for answer in await leaving if not isinstance(answer, Scored)}
        return stats, answers, scored, gone

    async def _shared(pool):
        return (await pool._host.hear.remote(pool._client)).clients.get(pool._client, clients.NONE).shared == 5

    stats, answers, scored, gone = share(work)
    assert stats.queued <= 5
    assert right(answers, 50, first=40)
    assert scored <= 6
    assert gone == {"its client is gone"}


@pytest.mark.engine
def test_a_pool_scales_at_its_own_job_and_says_where(share):
    async def work(a, b):
        with pytest.raises(UserError, match="duvlm scale rewards 3 --run shared/rewards"):
            await a.resize(3)
        with pytest.raises(UserError, match="duvlm scale rewards 2:8 --run shared/rewards"):
            a.autoscale(2, 8)
        return a.processes()

    assert share(work) == {}


@pytest.mark.engine
def test_one_name_is_one_pool_and_a_missing_one_is_told_with_those_that_run(host, ray_cluster, monkeypatch):
    with pytest.raises(UserError, match="a pool of that name runs already"):
        create(replace(settings(), name="shared"))
    assert control.pools() == ["shared"]
    with pytest.raises(UserError, match="found none"):  # a pool is no desk
        control.scale_rewards(control.Wish(2, 2))
    monkeypatch.setattr(clients, "FIND_SECONDS", 0.2)
    with pytest.raises(UserError, match="reward.pool=typo: expected the name of a running pool, found shared"):
        asyncio.run(SharedPool(settings(pool="typo")).start())
    with pytest.raises(UserError, match="reward.steps=7 "):
        asyncio.run(SharedPool(settings(pool="shared", steps=7)).start())


@pytest.mark.engine
@pytest.mark.chaos
def test_a_pool_that_comes_back_is_asked_again_and_one_that_does_not_is_a_curable_error(ray_cluster, monkeypatch):
    monkeypatch.setattr(clients, "FIND_SECONDS", 20.0)
    mortal = replace(settings(actors=1), name="mortal")

    async def work():
        first = create(mortal, actor_class=light())
        await first.open.remote()
        processes, pool = await first.processes.remote(), SharedPool(settings(pool="mortal"))
        await pool.start()
        scoring = [asyncio.create_task(pool.score(queries(picture(60), 20, first=n))) for n in (0, 20)]
        await until(lambda: _true(pool, "queued"))
        ray_cluster.kill(first)
        await until(lambda: _gone(processes))  # nothing of it is left
        second = create(mortal, actor_class=light())
        await second.open.remote()
        answers = await asyncio.gather(*scoring)
        ray_cluster.kill(second)
        monkeypatch.setattr(clients, "FIND_SECONDS", 0.2)
        with pytest.raises(TimeoutError, match="reward.pool=mortal"):
            await pool.score(queries(picture(61), 1))
        await pool.close()
        return answers

    async def _gone(processes):
        return not any(psutil.pid_exists(pid) for pid in processes.values())

    first, second = asyncio.run(asyncio.wait_for(work(), 100))
    assert right(first, 60)
    assert right(second, 60, first=20)


def test_one_line_says_what_a_pool_does_and_for_whom():
    async def said():
        pool = RewardPool(settings())
        pool._account("first-1").count("asked")
        return line(pool.stats())

    assert asyncio.run(said()) == (
        "0 reward actors, 0 queries wait, oldest 0.0 s; first-1: 0 wait, 1 asked, 0 restored, 0 known"
    )


ELSEWHERE = """
import asyncio, sys
import ray
from configs.schema import Config
from test_shared_pool import SharedPool, picture, queries, settings

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
    path = os.pathsep.join(
        [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    other = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )

    async def work(a, b):
        assert b"asking" in await asyncio.to_thread(other.stdout.readline)
        await until(lambda: _true(a, "queued"))
        scoring = asyncio.create_task(a.score(queries(picture(70), 10, first=90)))
        await until(lambda: _shared(a))
        os.kill(other.pid, signal.SIGKILL)
        answers = await scoring
        await until(lambda: _only(a))
        return answers, await a._host.stats.remote()

    async def _shared(pool):
        return (await pool._host.stats.remote()).clients.get(pool._client, clients.NONE).shared == 10

    async def _only(pool):
        return list((await pool._host.stats.remote()).clients) == [pool._client]

    answers, stats = share(work)
    assert right(answers, 70, first=90)
    assert stats.queued == 0
