"""The running scale of an online reward: what it makes comparable, and what it never turns round."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.types import Completion, Gated, Group, Prompt, Scored
from learner.rl.advantages import JudgedGroup, trajectories
from learner.rl.online_reward import WARM_UP, Moments, RunningScale, rescaled
from reward_actors.scoring.scorer import Term

TERMS = (Term("consistency", 2.0), Term("brightness", 1.0))  # more is better, less is better


def parts(consistency, brightness):
    return {"consistency": consistency, "brightness": brightness}


def stream(count, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(rng.normal(-3e-4, 1e-4, count).tolist(), rng.normal(5, 2, count).tolist(), strict=True)
    return [parts(*pair) for pair in pairs]


def test_moments_are_those_of_all_values_together():
    values = np.random.default_rng(0).normal(3, 2, 50)
    moments = Moments()
    for value in values:
        moments = moments.with_value(float(value))
    assert (moments.count, moments.mean, moments.spread) == pytest.approx((50, values.mean(), values.std()))


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_reward_lies_between_the_penalty_and_one(consistency, brightness):
    assert -1 <= RunningScale(TERMS).seen(stream(50)).reward(parts(consistency, brightness)) <= 1


def test_better_is_more_in_every_term_whatever_its_direction_and_unit():
    scale = RunningScale(TERMS).seen(stream(500))
    usual = scale.reward(parts(-3e-4, 5.0))
    assert usual == pytest.approx(0, abs=0.05)
    assert scale.reward(parts(-2e-4, 5.0)) > usual
    assert scale.reward(parts(-3e-4, 7.0)) < usual
    better, worse = (scale.reward(parts(-3e-4 + s * 1e-4, 5.0)) - usual for s in (1, -1))
    assert better == pytest.approx(-worse, abs=0.03)
    assert better == pytest.approx(2 * (usual - scale.reward(parts(-3e-4, 7.0))), abs=0.05)  # its weight is twice


def test_a_term_that_has_not_varied_counts_nothing():
    scale = RunningScale(TERMS).seen([parts(-1e-4, 5.0)] * 3)
    assert scale.reward(parts(-1.0, 50.0)) == 0


def test_after_the_warm_up_the_scale_is_held():
    scale = RunningScale(TERMS).seen(stream(WARM_UP))
    assert scale.seen(stream(100, seed=1)) == scale


def test_a_scale_saved_as_json_goes_on_to_the_bit():
    scale = RunningScale(TERMS).seen(stream(33))
    again = RunningScale(TERMS).restored(json.loads(json.dumps(scale.as_dict())))
    assert again == scale
    assert again.seen(stream(9, seed=2)) == scale.seen(stream(9, seed=2))


def test_only_restorations_are_rescaled_and_a_gated_answer_stays_the_worst():
    verdicts = (Scored(0.0, parts(-1e-4, 5.0)), Gated("no_answer"), Scored(0.0, parts(-9e-2, 90.0)))
    group = Group(Prompt("a", 0), (Completion("", (1,), (-0.1,)),) * 3, 0)
    (item,), scale = rescaled([JudgedGroup(group, verdicts)], RunningScale(TERMS))
    good, gated, bad = (verdict.reward for verdict in item.verdicts)
    assert good > bad > gated == -1
    assert scale.moments["consistency"].count == 2
    best, worst, middle = (t.advantage for t in trajectories([item], "grpo"))
    assert best > middle > worst
