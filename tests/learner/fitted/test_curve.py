"""Curves fitted through a few answers, against smooth rewards that are known everywhere."""

import numpy as np
import pytest

from envs.taxonomy import TAXONOMY, taxonomy
from learner.fitted.curve import Curve, fit, is_smooth

SIGMA = TAXONOMY.keys["sigma"]
GAMMA, GAIN = TAXONOMY.keys["gamma"], TAXONOMY.keys["gain"]


def grid(key):
    return np.array(list(key.grid()))


def belief(key, centre, width):
    """A density on the grid, normal in the logarithm."""
    density = np.exp(-0.5 * (np.log(grid(key) / centre) / width) ** 2)
    return density / density.sum()


def blur_reward(sigma):
    """Falls faster towards blurs that are too strong, as restorations do."""
    away = np.log(sigma / 2.0)
    return -0.01 * (away**2 + 0.8 * away**3) + 0.001 * np.cos(3 * away) - 0.02


def light_reward(gamma, gain):
    a, b = np.log(gamma / 2.4), np.log(gain / 0.07)
    return -(a**2) - 0.4 * b**2 - 0.7 * a * b - 0.3 * a**3


def squared(error, exact):
    return (error**2).sum() / (exact**2).sum()


def gradient(belief, worth):
    """Of the mean worth, by the logits of a belief."""
    return belief * (worth - belief @ worth)


def plain(belief, drawn, rewards):
    """The same by GRPO: each draw's advantage times the gradient of its log-probability."""
    advantages = rewards - rewards.mean()
    return np.bincount(drawn, advantages, len(belief)) / len(drawn) - belief * advantages.mean()


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_four_answers_give_the_gradient_where_plain_grpo_gives_noise(width):
    rng, rewards = np.random.default_rng(0), blur_reward(grid(SIGMA))
    density = belief(SIGMA, 2.3, width)
    exact, errors = gradient(density, rewards), []
    for _ in range(200):
        drawn = rng.choice(len(density), 4, p=density)
        if len(known := np.unique(drawn)) >= 3:
            curve = fit([SIGMA], grid(SIGMA)[known, None], rewards[known])
            fitted = gradient(density, curve.last(()))
            sampled = plain(density, drawn, rewards[drawn])
            errors.append((squared(fitted - exact, exact), squared(sampled - exact, exact)))
    fitted, sampled = np.mean(errors, axis=0)
    assert fitted < 0.25
    assert fitted < sampled / 20


def test_the_worth_is_that_of_the_answers_at_the_answers_and_constant_far_beyond():
    values = np.array([1.8, 2.0, 2.1, 2.4, 2.6])
    curve = fit([SIGMA], values[:, None], blur_reward(values)).last(())
    at = [int(round((value - SIGMA.low) / SIGMA.step)) for value in values]
    assert curve[at] == pytest.approx(blur_reward(values), abs=2e-5)
    far = curve[grid(SIGMA) > 4]
    assert np.ptp(far) == 0
    assert far[0] > curve.min() - 1e-6  # never thrown off by a quadratic that runs away


def test_two_numbers_are_fitted_together():
    rng = np.random.default_rng(1)
    first, second = belief(GAMMA, 2.2, 0.1), belief(GAIN, 0.075, 0.1)
    rewards = light_reward(grid(GAMMA)[:, None], grid(GAIN)[None])
    drawn = np.stack([rng.choice(len(first), 8, p=first), rng.choice(len(second), 8, p=second)], axis=1)
    curve = fit([GAMMA, GAIN], np.stack([grid(GAMMA)[drawn[:, 0]], grid(GAIN)[drawn[:, 1]]], 1), rewards[*drawn.T])
    exact = gradient(first, rewards @ second)
    fitted = gradient(first, curve.first(drawn[:, 0], np.tile(second, (8, 1))))
    assert squared(fitted - exact, exact) < 0.02
    given = drawn[3, 0]
    exact = gradient(second, rewards[given])
    assert squared(gradient(second, curve.last([given])) - exact, exact) < 0.02


def test_what_the_policy_believes_of_the_second_number_is_interpolated_between_answers():
    """Worth u alone: so the first number is worth the mean of the second that follows it."""
    bins = (GAMMA.bins, GAIN.bins)
    index = np.arange(bins[1], dtype=np.float32)
    curve = Curve(("gamma", "gain"), (np.ones((bins[0], 1), np.float32), index[:, None]))
    densities = np.eye(bins[1])[[100, 140, 160]]
    worth = curve.first([50, 70, 70], densities)
    assert worth[[0, 50, 60, 70, 400]] == pytest.approx([100, 100, 125, 150, 150])


def test_equal_numbers_in_one_direction_are_no_trouble():
    values = np.array([[2.0, 0.05], [2.0, 0.06], [2.0, 0.07]])
    curve = fit([GAMMA, GAIN], values, np.array([-1.0, 0.0, -1.0]))
    assert all(np.isfinite(factor).all() for factor in curve.factors)
    assert int(curve.last([100]).argmax()) == pytest.approx(55, abs=2)  # gain .060


def test_one_answer_in_the_unit_of_another_gives_the_same_curve():
    values, worth = np.array([1.5, 2.0, 3.0, 3.5])[:, None], np.array([-3.0, 0.0, -1.0, -2.0])
    one, other = (fit([SIGMA], values, worth * unit + shift).last(()) for unit, shift in ((1, 0), (1e-4, -7e-4)))
    assert other == pytest.approx(one * 1e-4 - 7e-4, rel=1e-4, abs=1e-9)


def test_classes_directions_and_maps_are_not_smooth():
    wide = taxonomy(types=["haze", "low_light", "blur", "low_resolution", "motion_blur", "jpeg"], camera=True)
    maps = taxonomy(transmission_grid=4)
    smooth = {name for name, key in wide.keys.items() if is_smooth(key)}
    assert smooth == {"atmospheric_light", "transmission", "gamma", "gain", "sigma", "length"}
    assert not is_smooth(maps.keys["transmission"])
