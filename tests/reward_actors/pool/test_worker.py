"""The actor that restores, in this process; no Ray."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from configs import UserError
from configs.schema import Reward
from envs.taxonomy import TAXONOMY, Degradation
from envs.types import Failed, RewardQuery, Sample, Scored
from reward_actors.pool import worker as actors
from reward_actors.pool.batches import RejectedQueryError
from reward_actors.pool.worker import check_query
from reward_actors.scoring.scorer import score_batch


@pytest.mark.parametrize("error", [ArithmeticError("no number"), UserError("too small")])
def test_a_picture_that_cannot_be_scored_is_an_error_of_its_own_query_alone(samples, monkeypatch, error):
    """Haze is restored in one step: beside the row without a score another is finished, and two are under way."""
    hazy, _, blurred, low = samples

    def score(scorer, pictures, chosen, *others):
        if any(sample.sample_id == "black" for sample in chosen):
            raise error
        return score_batch(scorer, pictures, chosen, *others)

    async def work():
        actor = actors.RewardActor("one", Reward(prior="gaussian", restorer="ddnm", steps=4), 64)
        await actor.open()
        batch, asked = actor._batch, [("black", hazy), ("hazy", hazy), ("blurred", blurred), ("low", low)]
        named = [RewardQuery(name, replace(sample, sample_id=name), sample.degradation) for name, sample in asked]
        return await asyncio.gather(*map(actor.score, named), return_exceptions=True), actor._batch is batch

    monkeypatch.setattr(actors, "score_batch", score)
    (black, *others), same_batch = asyncio.run(work())
    assert black is error
    assert all(isinstance(answer, Scored) for answer in others)
    assert same_batch


PICTURE = np.zeros((4, 6, 3), np.uint8)
BLUR = TAXONOMY.degradation("blur", {"sigma": 1.0})


def with_values(type_name, **values):
    """A degradation that no taxonomy has checked."""
    return Degradation(type_name, tuple(values.items()))


@pytest.mark.parametrize(
    ("degraded", "clean", "degradation", "reason"),
    [
        (np.zeros((4, 6), np.uint8), None, BLUR, r"got uint8 \(4, 6\)"),
        (PICTURE.astype(np.float32), None, BLUR, "got float32"),
        (PICTURE[:0], None, BLUR, r"got uint8 \(0, 6, 3\)"),
        (PICTURE, PICTURE[:2], BLUR, r"got uint8 \(2, 6, 3\)"),
        (PICTURE, None, with_values("rain", sigma=1.0), "rain with .'sigma'. is no degradation"),
        (PICTURE, None, with_values("blur"), "is no degradation"),
        (PICTURE, None, with_values("blur", sigma=1.0, scale=2), "is no degradation"),
        (PICTURE, None, with_values("blur", sigma=float("nan")), "no finite number"),
    ],
)
def test_what_no_gate_would_let_through_is_never_restored(degraded, clean, degradation, reason):
    query = RewardQuery("one", None, degradation)
    with pytest.raises(RejectedQueryError, match=f"one: .*{reason}"):
        check_query(query, Sample("one", "", "test", degraded, clean))


def test_what_lies_beyond_the_grid_is_restored_since_large_photographs_have_large_blurs():
    for degradation in (
        None,
        BLUR,
        with_values("blur", sigma=99.5),
        with_values("blur+low_resolution", sigma=2.0, scale=9),
    ):
        check_query(RewardQuery("one", None, degradation), Sample("one", "", "test", PICTURE, PICTURE))


def test_a_rejected_query_is_answered_at_once_and_for_good():
    async def work():
        actor = actors.RewardActor("one", Reward(), 64)
        await actor.put([(7, RewardQuery("one", Sample("one", "", "test", PICTURE), with_values("rain", size=1.0)))])
        return (await asyncio.wait_for(actor.take(), 5)).answers

    (answer,) = asyncio.run(work())
    assert (answer.serial, answer.final, type(answer.result)) == (7, True, Failed)
    assert "rain" in answer.result.reason
