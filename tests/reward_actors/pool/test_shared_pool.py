"""A pool that several jobs share: a real cluster, real Ray actors, which score pictures without restoring them."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from sharing import picture, queries, right, settings, told, until

from configs import UserError
from configs.cluster import scaling as control
from configs.cluster.resources import plan
from envs.types import RewardQuery, Scored
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.shared import connect
from reward_actors.pool.shared.client import SharedPool, open_pool
from reward_actors.pool.shared.connect import PoolSettings
from reward_actors.pool.shared.job import create, describe
from reward_actors.pool.stats import Counts


def test_a_job_that_names_a_pool_has_no_reward_actors_of_its_own():
    assert isinstance(open_pool(settings(pool="shared")), SharedPool)
    assert isinstance(open_pool(settings()), RewardPool)
    for job in ("offline", "online", "ablate"):
        assert [role.name for role in plan(settings(pool="shared"), job).roles] == ["rollout engine", "learner rank"]
    assert [role.count for role in plan(settings(actors=5), "rewards").roles] == [5]


def test_a_pool_whose_scores_differ_is_refused_with_all_that_differs():
    here = settings(restorer="ddnm", scorer=["mse", "ssim:2"])
    with pytest.raises(UserError) as refused:
        PoolSettings.of(here).check("shared", PoolSettings.of(settings()))
    assert "reward.restorer=ddnm (there fast), reward.scorer=[mse,ssim:2] (there [mse])" in str(refused.value)
    assert "set reward.restorer=fast reward.scorer=[mse], or" in str(refused.value)
    alike = settings(actors=9, batch=4, pool="shared", cpus=1.0)
    PoolSettings.of(alike).check("shared", PoolSettings.of(settings()))


def test_a_pool_that_comes_back_with_another_prior_is_refused_so_that_one_job_has_one_reward():
    offered = [PoolSettings.of(settings(), fingerprint) for fingerprint in ("", "old", "new")]
    wanted, old, new = offered
    wanted.check("shared", old)
    old.check("shared", old)
    with pytest.raises(UserError, match="reward.pool=shared: the pool that came back loaded another prior"):
        old.check("shared", new)


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
        await until(lambda: told(a, "queued"))
        modest = await b.score(queries(picture(40), 20), priority=7)
        done = (await a._host.stats.remote()).clients[a._client].scored
        return done, await greedy, modest

    done, greedy, modest = share(work)
    assert 17 <= done <= 40  # those before the other came, and as many as it got
    assert right(greedy, 30)
    assert right(modest, 40)


@pytest.mark.engine
def test_what_a_client_leaves_behind_is_dropped_unless_another_waits_for_it(share):
    async def work(a, b):
        leaving = asyncio.create_task(a.score(queries(picture(50), 200)))
        await until(lambda: told(a, "queued"))
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
        return (await pool._host.heartbeat.remote(pool._client)).clients.get(pool._client, Counts()).shared == 5

    stats, answers, scored, gone = share(work)
    assert stats.queued <= 5
    assert right(answers, 50, first=40)
    assert scored < 100  # of 200: what was begun while its client left, and the five shared
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
    with pytest.raises(UserError, match="found none"):  # a pool is no mailbox
        control.scale_rewards(control.ScaleRequest(2, 2))
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.2)
    with pytest.raises(UserError, match="reward.pool=typo: expected the name of a running pool, found shared"):
        asyncio.run(SharedPool(settings(pool="typo")).start())
    with pytest.raises(UserError, match="reward.steps=7 "):
        asyncio.run(SharedPool(settings(pool="shared", steps=7)).start())


def test_one_line_says_what_a_pool_does_and_for_whom():
    async def said():
        pool = RewardPool(settings())
        pool.quota("first-1").count("asked")
        return describe(pool.stats())

    assert asyncio.run(said()) == (
        "0 reward actors, 0 queries wait, oldest 0.0 s; first-1: 0 wait, 1 asked, 0 restored, 0 known"
    )
