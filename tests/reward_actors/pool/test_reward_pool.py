"""The pool on a real Ray cluster: asked once, answered in order, nothing lost.

Tests that leave the pool as they found it share one, since an actor takes seconds to start.
"""

import asyncio
import dataclasses
import os
import signal

import numpy as np
import pytest
from pools import in_pool

from configs import UserError
from configs.schema import Config
from envs.environment import OfflineEnvironment
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Failed, Gated, Prompt, RewardQuery, Sample, Scored
from reward_actors.pool.pool import RewardPool
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import score

pytestmark = pytest.mark.engine
STEPS = 20


def settings(**changes) -> Config:
    config = Config()
    config.world.size = 64
    values = {"prior": "gaussian", "restorer": "ddnm", "steps": STEPS, "batch": 4, "cpus": 0.1} | changes
    for name, value in values.items():
        setattr(config.reward, name, value)
    return config


@pytest.fixture(scope="module")
def in_shared_pool(ray_cluster, blurred):
    """Runs `work(pool)` on a pool of two actors that outlives the test."""
    environment = OfflineEnvironment(
        [Prompt(blurred.sample_id, None)], {blurred.sample_id: blurred.degradation}, TAXONOMY
    )
    with asyncio.Runner() as runner:
        pool = RewardPool(settings(), environment=environment)
        runner.run(pool.start())
        yield lambda work: runner.run(work(pool))
        runner.run(pool.close())


@pytest.fixture(scope="module")
def blurred(samples):
    return next(sample for sample in samples if sample.degradation.type == "blur")


@pytest.fixture(scope="module")
def ask(ray_cluster, blurred):
    """ask(sample_id, count): that many different queries about one picture in the object store."""
    reference = ray_cluster.put(blurred)

    def make(sample_id, count):
        sigmas = [0.8 + 0.02 * i for i in range(count)]
        return [RewardQuery(sample_id, reference, TAXONOMY.degradation("blur", {"sigma": s})) for s in sigmas]

    return make


def without_actors(queries, sample):
    """The rewards of queries about one sample, computed here."""
    answers, ids = [query.degradation for query in queries], [query.sample_id for query in queries]
    restored = restore_batch(photo_gaussian(64), restorer("ddnm", STEPS), [sample.degraded] * len(ids), answers, ids)
    return [score("mse", one, sample, answer)[0] for one, answer in zip(restored, answers, strict=True)]


def rewards(answers):
    assert all(isinstance(answer, Scored) for answer in answers), answers
    return [answer.reward for answer in answers]


def test_a_picture_that_nothing_is_done_to_is_scored_as_it_is(in_shared_pool, ask, blurred):
    restored, untouched = ask("nothing", 1)[0], dataclasses.replace(ask("nothing", 1)[0], degradation=None)

    async def work(pool):
        return await pool.score([untouched, restored])

    answers = in_shared_pool(work)
    assert rewards(answers)[0] == pytest.approx(score("mse", blurred.degraded / np.float32(255), blurred, None)[0])
    assert answers[0].reward != answers[1].reward


def test_scores_equal_those_computed_without_actors(in_shared_pool, ask, blurred):
    queries = ask("equal", 40)

    async def work(pool):
        before = pool.stats().image_steps
        answers = await pool.score(queries)
        return answers, pool.stats(), pool.stats().image_steps - before

    answers, stats, image_steps = in_shared_pool(work)
    assert rewards(answers) == pytest.approx(without_actors(queries, blurred), abs=1e-6)
    assert {answer.actor for answer in answers} == {"reward-0", "reward-1"}
    assert image_steps == 40 * STEPS
    assert all(seconds > 0 for seconds in stats.busy.values())


def test_nothing_is_asked_twice(in_shared_pool, ask):
    queries = ask("twice", 8)

    async def work(pool):
        before = pool.stats()
        twice, again = await asyncio.gather(pool.score(queries[:6] * 2), pool.score(queries))
        later = await pool.score(queries)
        return twice, again, later, before, pool.stats()

    twice, again, later, before, after = in_shared_pool(work)
    assert rewards(twice[:6]) == rewards(twice[6:]) == rewards(again[:6])
    assert rewards(later) == rewards(again)
    assert all(answer.cached for answer in later)
    counts = ("asked", "scored", "shared", "memo_hits")
    assert [getattr(after, name) - getattr(before, name) for name in counts] == [28, 8, 12, 8]


HAZY = "[T-haze][K-atmospheric_light][V-0.70][K-transmission][V-0.40]"
BLURRED = "[T-blur][K-sigma][V-1.20]"


def test_texts_go_in_and_rewards_with_reasons_come_out_and_a_gated_answer_never_reaches_an_actor(
    in_shared_pool, blurred, ray_cluster
):
    prompt = Prompt(blurred.sample_id, ray_cluster.put(blurred))
    texts = ["", "[T-blur]", HAZY, BLURRED, "[T-blur][K-sigma][V-1.30]", BLURRED]

    async def work(pool):
        before = pool.stats()
        verdicts = await pool.judge(prompt, [*texts[:5], Completion(texts[5], (1, 2), (0.0, 0.0))])
        return verdicts, pool.stats().asked - before.asked, pool.stats().scored - before.scored

    verdicts, asked, scored = in_shared_pool(work)
    assert [type(verdict) for verdict in verdicts] == [Gated] * 3 + [Scored] * 3
    assert verdicts[2] == Gated("wrong_type")
    assert (asked, scored) == (3, 2)
    queries = [
        RewardQuery(blurred.sample_id, None, TAXONOMY.degradation("blur", {"sigma": s})) for s in (1.2, 1.3, 1.2)
    ]
    assert rewards(verdicts[3:]) == pytest.approx(without_actors(queries, blurred), abs=1e-6)


def test_a_restoration_that_cannot_be_had_is_judged_failed_beside_its_neighbours(in_shared_pool, blurred):
    broken = dataclasses.replace(blurred, degraded=np.full((64, 64), 7, np.uint8))  # no colours

    async def work(pool):
        return await pool.judge(Prompt(blurred.sample_id, broken), [HAZY, "[T-blur][K-sigma][V-1.41]"])

    gated, failed = in_shared_pool(work)
    assert gated == Gated("wrong_type")
    assert isinstance(failed, Failed)
    assert "expected pictures of uint8 (H, W, 3), got uint8 (64, 64)" in failed.reason


def test_a_pool_without_an_environment_says_that_it_has_no_gate(in_shared_pool):
    pool = RewardPool(settings())
    with pytest.raises(ValueError, match="environment="):
        asyncio.run(pool.judge(Prompt("one", None), [BLURRED]))


def test_older_groups_overtake_younger_ones(in_shared_pool, ask):
    finished = []

    async def score(pool, name, count, priority):
        await pool.score(ask(name, count), priority)
        finished.append(name)

    async def work(pool):
        await asyncio.gather(score(pool, "running", 8, 0), score(pool, "young", 32, 9), score(pool, "old", 16, 1))

    in_shared_pool(work)
    assert finished == ["running", "old", "young"]


def test_a_query_that_breaks_the_batch_fails_alone(in_shared_pool, ask, blurred):
    queries = ask("beside", 6)
    small = np.full((16, 16, 3), 7, np.uint8)  # the prior is made for 64 x 64
    broken = dataclasses.replace(blurred, degraded=small, clean=small)
    poison = RewardQuery("broken", broken, blurred.degradation)

    async def work(pool):
        return await pool.score([*queries[:3], poison, *queries[3:]]), pool.stats()

    answers, stats = in_shared_pool(work)
    failed = answers.pop(3)
    assert isinstance(failed, Failed)
    assert "BatchError" in failed.reason
    assert rewards(answers) == pytest.approx(without_actors(queries, blurred), abs=1e-6)
    assert stats.restarts == 0


def test_a_scorer_without_its_truth_is_an_error_of_the_user(in_shared_pool, blurred):
    blind = RewardQuery("blind", dataclasses.replace(blurred, clean=None), blurred.degradation)
    with pytest.raises(UserError, match="needs the clean picture"):
        in_shared_pool(lambda pool: pool.score([blind]))


def test_the_pool_grows_and_shrinks_under_load(in_shared_pool, ask, blurred):
    queries = ask("resized", 40)

    async def work(pool):
        scoring = asyncio.create_task(pool.score(queries))
        await pool.resize(3)
        grown = pool.stats().actors
        more = asyncio.create_task(pool.score(ask("drained", 40)))
        await asyncio.sleep(0)
        await pool.resize(2)
        return grown, await scoring, await more, list(pool.processes())

    grown, answers, more, left = in_shared_pool(work)
    assert grown == 3
    assert rewards(answers) == pytest.approx(without_actors(queries, blurred), abs=1e-6)
    assert len(rewards(more)) == 40
    assert left == ["reward-0", "reward-1"]


def test_a_missing_prior_is_explained_before_any_query(ray_cluster):
    with pytest.raises(UserError, match="^reward.prior=/nowhere: expected a folder"):
        in_pool(settings(prior="/nowhere", actors=1), None)


@pytest.mark.chaos
def test_killing_reward_actors_loses_nothing_and_changes_no_score(ask, blurred):
    queries = ask("killed", 60)

    async def work(pool):
        scoring = asyncio.create_task(pool.score(queries))
        for name in ("reward-0", "reward-1", "reward-0"):
            while name not in pool.processes() or not pool.stats().in_flight:
                await asyncio.sleep(0.02)
            os.kill(killed := pool.processes()[name], signal.SIGKILL)
            while pool.processes().get(name) == killed:  # on a busy machine it takes a while to be noticed
                await asyncio.sleep(0.02)
        return await scoring, pool.stats()

    answers, stats = in_pool(settings(batch=8), work)
    assert rewards(answers) == pytest.approx(without_actors(queries, blurred), abs=1e-9)
    assert stats.scored == len(queries)
    assert stats.restarts >= 2


class Killer(Sample):
    """A sample whose arrival ends the process, as a crash in native code would."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.chaos
def test_a_query_that_kills_two_actors_is_failed_and_its_neighbours_live(ask, blurred, ray_cluster):
    queries = ask("neighbours", 6)
    killer = ray_cluster.put(Killer("poison", "", "", blurred.degraded))
    poison = RewardQuery("poison", killer, blurred.degradation)

    async def work(pool):
        return await pool.score([*queries[:3], poison, *queries[3:]]), pool.stats()

    answers, stats = in_pool(settings(), work)
    failed = answers.pop(3)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("it ended 2 actors")
    assert rewards(answers) == pytest.approx(without_actors(queries, blurred), abs=1e-6)
    assert stats.restarts >= 2


@pytest.mark.chaos
def test_when_no_actor_is_left_the_job_is_told_instead_of_waiting(ask, monkeypatch):
    monkeypatch.setattr("reward_actors.pool.replicas.MAX_RESTARTS", 0)

    async def work(pool):
        scoring = asyncio.create_task(pool.score(ask("orphans", 40)))
        while not pool.stats().in_flight:
            await asyncio.sleep(0.01)
        os.kill(pool.processes()["reward-0"], signal.SIGKILL)
        return await scoring

    with pytest.raises(UserError, match="no reward actor is left"):
        in_pool(settings(actors=1, steps=100), work)
