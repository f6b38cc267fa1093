"""The actor that restores, in this process; no Ray."""

import asyncio
from dataclasses import replace

import pytest

from configs import UserError
from configs.schema import Reward
from envs.types import RewardQuery, Scored
from reward_actors.pool import worker as actors
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
