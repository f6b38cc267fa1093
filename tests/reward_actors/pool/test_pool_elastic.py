"""The pool as it grows, shrinks and starts actors anew: the real pool and real Ray actors, which wait instead of
restoring, so that seconds suffice."""

import asyncio
import time
from pathlib import Path

import pools
import psutil
import pytest

from benchmarks.throughput.loop.stubs import StandIn
from configs import UserError
from configs.schema import Config
from envs.taxonomy import TAXONOMY
from envs.types import RewardQuery, Scored
from reward_actors.pool.stats import Ready

pytestmark = pytest.mark.engine
ANSWER = TAXONOMY.degradation("blur", {"sigma": 1.0})


def queries(name, count, seconds):
    return [RewardQuery(f"{name}-{i}", seconds, ANSWER) for i in range(count)]


def in_pool(work, actor_class=StandIn, **changes):
    """On a pool of its own, whose actors take one query at a time."""
    config = Config()
    for name, value in ({"actors": 1, "batch": 1, "cpus": 0.05} | changes).items():
        setattr(config.reward, name, value)
    return pools.in_pool(config, work, actor_class)


def test_from_two_actors_to_six_to_one_no_query_is_lost_and_throughput_follows(ray_cluster):
    async def work(pool):
        enough, answers, rates = asyncio.Event(), [], []

        async def ask(name):
            asked = 0
            while not enough.is_set():
                answers.extend(await pool.score(queries(f"{name}-{asked}", 8, 0.2)))
                asked += 8
            return asked

        asking = [asyncio.create_task(ask(name)) for name in "abcd"]
        for actors in (2, 6, 1):
            before = pool.processes()
            await pool.resize(actors)
            await asyncio.sleep(0.5)
            scored = pool.stats().scored
            await asyncio.sleep(2)
            rates.append((pool.stats().scored - scored) / 2)
        ended, left = set(before.values()) - set(pool.processes().values()), pool.stats().actors
        enough.set()
        await pool.resize(6)
        return rates, answers, sum(await asyncio.gather(*asking)), ended, left, pool.stats()

    rates, answers, asked, ended, left, stats = in_pool(work, actors=2)
    assert len(answers) == asked
    assert all(isinstance(answer, Scored) for answer in answers)
    assert (stats.scored, stats.failed, left) == (asked, 0, 1)
    assert rates[1] > 1.8 * rates[0]
    assert rates[2] < 0.7 * rates[0]
    assert len(ended) == 5
    assert not [pid for pid in ended if psutil.pid_exists(pid)]


def test_a_drained_actor_finishes_what_it_holds_and_ends(ray_cluster):
    async def work(pool):
        scoring = asyncio.create_task(pool.score(queries("held", 4, 1.0)))
        while pool.stats().in_flight < 4:
            await asyncio.sleep(0.01)
        before = pool.processes()
        await pool.resize(1)
        held = pool.stats().in_flight
        answers = await scoring
        await asyncio.sleep(1)
        return held, answers, [psutil.pid_exists(pid) for pid in before.values()], pool.stats()

    held, answers, alive, stats = in_pool(work, actors=4)
    assert held == 4
    assert sorted(answer.actor for answer in answers) == [f"reward-{i}" for i in range(4)]
    assert sum(alive) == stats.actors == 1


def test_the_autoscaler_grows_under_load_and_shrinks_after(ray_cluster):
    async def work(pool):
        pool.autoscale(1, 3, patience=1.0, calm=2.0)
        await pool.score(queries("rush", 120, 0.3))  # longer than actors take to start on a slow machine
        busy = pool.stats()
        for _ in range(150):
            if pool.stats().actors == 1:
                break
            await asyncio.sleep(0.1)
        return busy, pool.stats()

    busy, calm = in_pool(work)
    assert busy.actors == 3
    assert busy.scored == 120
    assert calm.actors == 1
    sizes = [(scaling.before, scaling.after) for scaling in calm.scalings]
    assert sizes == [(1, 2), (2, 3), (3, 2), (2, 1)]
    assert all(scaling.load.queue_age > 1.0 for scaling in calm.scalings[:2])
    assert all(scaling.load.busy < 0.5 for scaling in calm.scalings[2:])


def test_the_autoscaler_asks_for_no_more_than_the_cluster_holds(ray_cluster):
    async def work(pool):
        pool.autoscale(1, 50, patience=0.5)
        await pool.score(queries("crowd", 40, 0.3))
        return pool.stats()

    free = ray_cluster.available_resources()["CPU"]  # actors of the test before may still hold a little
    stats = in_pool(work, cpus=free / 2)
    assert stats.scored == 40
    assert stats.actors == 2
    assert not any(scaling.trouble for scaling in stats.scalings)


def test_a_number_set_by_hand_ends_autoscaling(ray_cluster):
    async def work(pool):
        await pool.resize(1)
        await pool.score(queries("manual", 10, 0.3))
        return pool.stats()

    stats = in_pool(work, actors=2, max_actors=4)
    assert stats.actors == 1
    assert stats.scalings == ()


def test_fewer_actors_at_most_than_at_the_start_are_refused(ray_cluster):
    with pytest.raises(UserError, match="reward.max_actors=1: expected 0 or at least reward.actors=2"):
        in_pool(None, actors=2, max_actors=1)


def with_fingerprint_in(file: Path) -> type:
    """Stand-ins whose scores depend on a file, as restorations do on the weights of a prior."""

    class FromFile(StandIn):
        async def open(self):
            return Ready(file.read_text(), (await super().open()).pid, 1)

    return FromFile


async def restarted(pool, name):
    """Kills an actor by its process and waits until another fills its place, or nobody does."""
    process, before = psutil.Process(pool.processes()[name]), pool.stats().restarts
    process.kill()
    await pool.score(queries(f"after-{name}-{time.monotonic()}", 4, 0.1))
    while pool.stats().restarts == before:
        await asyncio.sleep(0.05)


@pytest.mark.chaos
def test_one_job_has_one_reward_an_actor_with_another_prior_is_not_let_in(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("reward_actors.pool.replicas.MAX_RESTARTS", 2)
    weights = tmp_path / "weights"
    weights.write_text("old")

    async def work(pool):
        weights.write_text("new")
        await restarted(pool, "reward-1")
        answers = await pool.score(queries("mixed", 10, 0.05))
        return answers, pool.processes()

    answers, left = in_pool(work, with_fingerprint_in(weights), actors=2)
    assert {answer.actor for answer in answers} == {"reward-0"}
    assert list(left) == ["reward-0"]
