"""Rewards for a trainer that calls a function: by a real pool, equal to restorations in this process."""

import asyncio

import numpy as np
import pytest
import ray
from corpora import written

import duvlm
from configs import UserError, load
from envs.language.answer import write
from envs.taxonomy import TAXONOMY
from envs.types import RewardQuery
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import mse

pytestmark = pytest.mark.engine
SETTINGS = ["world.size=48", "reward.prior=gaussian", "reward.restorer=fast", "reward.cpus=0.1", "reward.actors=2"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    corpus = written(tmp_path_factory.mktemp("corpus"), 20, train=6)
    return load("offline", [f"corpus={corpus}", *SETTINGS])


@pytest.fixture(scope="module")
def rewards(config):
    before = ray.is_initialized()
    with duvlm.RewardFunction(config) as function:
        assert ray.is_initialized()
        yield function
    assert ray.is_initialized() is before


def answer(degradation) -> str:
    return write(degradation, TAXONOMY)


def test_a_batch_of_several_groups_is_rewarded_as_one_restoration_after_the_other(rewards):
    before, (one, other) = rewards.stats(), rewards.samples[:2]
    names = [one.sample_id, other.sample_id, one.sample_id, one.sample_id]
    texts = [answer(one.degradation), answer(other.degradation), answer(one.degradation), "no answer"]
    answered = rewards(["a question"] * 4, texts, sample_id=names, some_other_column=[1, 2, 3, 4])
    for sample, reward in zip((one, other), answered, strict=False):
        (restored,) = restore_batch(
            photo_gaussian(48), restorer("fast"), [sample.degraded], [sample.degradation], [sample.sample_id]
        )
        assert reward == pytest.approx(-mse(np.asarray(restored), sample.clean), abs=1e-6)
    assert answered[2:] == [answered[0], -1.0]
    after = rewards.stats()
    assert (after.asked - before.asked, after.scored - before.scored) == (3, 2)  # equal answers are restored once


def test_answers_come_as_conversations_too_and_are_remembered(rewards):
    before, sample = rewards.stats(), rewards.samples[2]
    talk = [{"role": "assistant", "content": answer(sample.degradation)}]
    parts = [{"role": "assistant", "content": [{"type": "text", "text": answer(sample.degradation)}]}]
    first = rewards([None], [talk], sample_id=[sample.sample_id])
    assert rewards([None], [parts], sample_id=[sample.sample_id]) == first
    assert rewards.stats().memo_hits == before.memo_hits + 1


def test_what_a_trainer_must_bring_is_said(rewards, config):
    with pytest.raises(UserError, match="give the trainer's data set a column `sample_id`"):
        rewards([None], ["text"])
    with pytest.raises(UserError, match="expected one of the 6 samples, got 'nobody'"):
        rewards([None], ["text"], sample_id=["nobody"])
    with pytest.raises(UserError, match="inside its `with` block"):
        duvlm.RewardFunction(config)([None], ["text"], sample_id=[rewards.samples[0].sample_id])


def test_without_a_truth_only_the_form_of_an_answer_counts(config):
    function = duvlm.RewardFunction(config, job="online")
    name = function.samples.sample_ids()[0]
    assert function.samples[0].sample_id == name
    assert function.samples[0].clean is None


def test_a_pool_lasts_as_long_as_its_block_and_an_error_in_it_ends_it_too(rewards, config):
    sample = rewards.samples[3]

    async def work():
        async with duvlm.RewardPool(config) as pool:
            (scored,) = await pool.score([RewardQuery(sample.sample_id, sample, sample.degradation)])
            assert len(pool.processes()) == 2
            raise LookupError(scored.reward)

    with pytest.raises(LookupError) as failure:
        asyncio.run(work())
    assert rewards([None], [answer(sample.degradation)], sample_id=[sample.sample_id]) == [failure.value.args[0]]
