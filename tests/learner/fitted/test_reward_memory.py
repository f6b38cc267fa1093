"""What earlier answers earned, remembered, written and read back."""

import json

import pytest

from configs.schema import Config, Reward
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Group, Prompt, Scored
from learner.fitted import memory as module
from learner.fitted.answers import fit_group, fit_groups
from learner.fitted.memory import RewardMemory
from learner.rl.advantages import JudgedGroup


def blur(sigma):
    return TAXONOMY.degradation("blur", {"sigma": sigma})


def judged(*sigmas, picture="a"):
    completions = tuple(Completion(f"[T-blur][K-sigma][V-{sigma:.2f}]", (1,), (-0.1,)) for sigma in sigmas)
    return JudgedGroup(Group(Prompt(picture, "picture"), completions, 0), tuple(map(reward, sigmas)))


def reward(sigma):
    return Scored(-((sigma - 2) ** 2) / 1000)


def memory(**settings):
    return RewardMemory(TAXONOMY, Reward(**settings))


def test_a_curve_has_the_answers_of_earlier_groups_of_its_picture():
    config, known = Config(), memory()
    config.grpo.estimator = "fitted"
    first, second = fit_groups([judged(1.5, 1.8, 2.1, 2.4), judged(2.2, 2.5)], config, known)
    alone = fit_group(judged(2.2, 2.5), TAXONOMY, "grpo")
    assert first.reasons == ("",) * 4
    assert (alone.reasons, second.reasons) == (("few",) * 2, ("",) * 2)
    worth = second.curves[0].last(())
    assert int(worth.argmax()) == pytest.approx(170, abs=3)  # sigma 2.00, which this group did not answer
    assert worth[190] - worth[220] == pytest.approx(2**0.5, rel=1e-2)  # in its own advantages
    assert list(known.recall("a")) == [blur(sigma) for sigma in (1.5, 1.8, 2.1, 2.4, 2.2, 2.5)]


def test_another_picture_is_another_curve():
    config, known = Config(), memory()
    config.grpo.estimator = "fitted"
    other = fit_groups([judged(1.5, 1.8, 2.1), judged(2.2, 2.5, picture="b")], config, known)[1]
    assert other.reasons == ("few",) * 2


def test_it_is_read_back_exactly_and_oldest_first(monkeypatch):
    monkeypatch.setattr(module, "ANSWERS", 3)
    one, other = memory(), memory()
    for sigma in (1.1, 1.2, 1.3, 1.4, 1.2):
        one.add("a", {blur(sigma): -sigma / 3})
    light = TAXONOMY.degradation("low_light", {"gamma": 2.5, "gain": 0.07})
    one.add("b", {light: -0.1})
    other.restore(json.loads(json.dumps(one.as_dict())))
    assert list(other.recall("a").items()) == [(blur(s), -s / 3) for s in (1.3, 1.4, 1.2)]
    assert other.recall("b") == {light: -0.1}
    assert other.as_dict() == one.as_dict()


def test_rewards_of_another_restorer_are_forgotten():
    one, other = memory(restorer="fast"), memory(restorer="closed_form")
    one.add("a", {blur(1.1): -0.1})
    other.restore(json.loads(json.dumps(one.as_dict())))
    other.restore({})
    assert other.recall("a") == {}
