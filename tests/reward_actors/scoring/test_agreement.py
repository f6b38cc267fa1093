"""Agreement: the middle of a group's answers taken for the truth."""

import numpy as np
import pytest

from envs.environment import relative_error
from envs.taxonomy import TAXONOMY, taxonomy
from envs.types import Failed, Sample, Scored
from learner.rl.online_reward import RunningScale
from reward_actors.scoring.agreement import agreements, with_agreement
from reward_actors.scoring.scorer import score, terms


def blur(sigma):
    return TAXONOMY.degradation("blur", {"sigma": sigma})


def dark(gamma, gain):
    return TAXONOMY.degradation("low_light", {"gamma": gamma, "gain": gain})


def test_the_median_agrees_wholly_and_the_others_by_their_distance_from_it():
    assert agreements([blur(1.0), blur(2.0), blur(3.0)]) == pytest.approx([0.5, 1.0, 0.5])
    assert agreements([blur(1.0), blur(2.0)]) == pytest.approx([2 / 3, 2 / 3])  # their middle is 1.5


def test_each_key_has_its_own_median():
    answers = [dark(1.5, 0.4), dark(2.0, 0.2), dark(3.0, 0.3)]
    middle = dark(2.0, 0.3)
    assert agreements(answers) == pytest.approx([1 - relative_error(middle, answer) for answer in answers])


def test_another_type_than_most_does_not_agree_at_all():
    assert agreements([dark(2.0, 0.3), blur(2.0), blur(2.0)]) == [0.0, 1.0, 1.0]
    assert agreements([]) == []


def test_no_answer_agrees_with_nothing():
    assert agreements([None, blur(2.0), None]) == [0.0, 1.0, 0.0]
    assert agreements([None, None]) == [0.0, 0.0]


def test_a_grid_of_transmissions_is_compared_number_by_number():
    hazy = taxonomy(transmission_grid=2)
    light, grid = hazy["haze"].keys[0].name, hazy["haze"].keys[1].name
    answers = [hazy.degradation("haze", {light: 0.8, grid: ((t, t), (t, 0.5))}) for t in (0.3, 0.5, 0.6)]
    found = agreements(answers)
    assert found[1] == pytest.approx(1)
    assert found[0] == pytest.approx(1 - (3 * 0.2 / 2.0) / 2)


def test_a_group_whose_answers_are_near_the_truth_is_led_towards_it():
    """The signal an online job has of it: answers nearer the truth agree more, as long as they scatter around it."""
    rng, truth = np.random.default_rng(0), 2.0
    sigmas = np.clip(rng.normal(truth, 0.3, 200), 0.5, 3.5)
    nearness = -np.abs(sigmas - truth)
    assert np.corrcoef(agreements([blur(sigma) for sigma in sigmas]), nearness)[0, 1] > 0.95


def test_the_term_is_added_by_the_job_and_left_out_by_the_pool(photo):
    scorer = ["consistency", "agreement:0.5"]
    restored = photo.astype(np.float32) / 255
    reward, parts = score(scorer, restored, Sample("photo", "photo", "test", photo), blur(2.0))
    assert reward == parts["consistency"]
    scores = [Scored(reward, parts), Failed("gone"), Scored(reward, parts)]
    first, failed, last = with_agreement(scorer, [blur(2.0), blur(2.0), blur(3.0)], scores)
    assert failed == Failed("gone")
    assert first.reward == pytest.approx(reward + 0.5)
    assert last.reward == pytest.approx(reward + 0.5 * 0.5)
    assert (first.parts["agreement"], last.parts["agreement"]) == (1.0, 0.5)
    assert with_agreement(["consistency"], [blur(2.0)] * 3, scores) == scores


def test_it_has_a_scale_in_an_online_job_as_every_term_has():
    scale = RunningScale(terms(["agreement"])).seen([{"agreement": value} for value in (0.7, 0.8, 0.9)])
    assert scale.reward({"agreement": 0.9}) > 0 > scale.reward({"agreement": 0.7})
