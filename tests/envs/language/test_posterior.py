import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.degradations.motion_blur import MotionBlur
from envs.language import posterior
from envs.taxonomy import TAXONOMY

SIGMA, SCALE = TAXONOMY.keys["sigma"], TAXONOMY.keys["scale"]


def density(key, **weights):
    """Weights by grid value, as in density(SCALE, _2=.6, _4=.4)."""
    found = np.zeros(key.bins, np.float32)
    for name, weight in weights.items():
        found[list(key.grid()).index(float(name[1:].replace("_", ".")))] = weight
    return found


def test_the_three_readings_of_a_lopsided_density():
    found = density(SIGMA, _1_00=0.4, _2_00=0.3, _6_00=0.3)
    assert posterior.argmax(SIGMA, found) == 1.0
    assert posterior.quantile(SIGMA, found, 0.5) == 2.0
    assert posterior.mean(SIGMA, found) == pytest.approx(2.8)


def test_integers_have_no_mean():
    found = density(SCALE, _2=0.6, _8=0.4)
    assert posterior.mean(SCALE, found) == 2
    assert SCALE.is_class
    assert not SIGMA.is_class


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3))
def test_readings_lie_on_the_grid_and_intervals_hold_their_share(seed, temperature):
    rng = np.random.default_rng(seed)
    found = posterior.tempered(rng.dirichlet(np.full(SIGMA.bins, 0.05)), temperature).astype(np.float32)
    grid = list(SIGMA.grid())
    low, middle, high = (posterior.quantile(SIGMA, found, share) for share in (0.05, 0.5, 0.95))
    assert low <= middle <= high
    assert {low, middle, high, posterior.argmax(SIGMA, found), posterior.mean(SIGMA, found)} <= set(grid)
    inside = found[grid.index(low) : grid.index(high) + 1].sum()
    assert inside >= 0.9 - 1e-4
    assert posterior.mean(SIGMA, found) == pytest.approx(float(found @ np.array(grid)), abs=0.006)


def test_a_temperature_above_one_widens():
    peaked = np.array([0.1, 0.8, 0.1])
    assert posterior.tempered(peaked, 2.0)[1] < 0.8 < posterior.tempered(peaked, 0.5)[1]


def bump(key, middle, width):
    found = np.exp(-0.5 * ((np.array(list(key.grid())) - middle) / width) ** 2)
    return found / found.sum()


def test_views_that_agree_know_no_more_than_one():
    one = bump(SIGMA, 2.0, 0.2)
    assert posterior.pooled(SIGMA, np.array([one] * 5)) == pytest.approx(one, abs=1e-5)
    assert posterior.pooled(SIGMA, np.array([one])) == pytest.approx(one)


def test_views_that_disagree_make_the_interval_wide_enough_for_what_they_say():
    apart = np.array([bump(SIGMA, middle, 0.1) for middle in (1.5, 2.0, 2.5)])
    found = posterior.pooled(SIGMA, apart)
    low, high = posterior.interval(SIGMA, found)
    assert posterior.mean(SIGMA, found) == pytest.approx(2.0, abs=0.02)
    assert low < 1.5 < 2.5 < high
    alone = posterior.interval(SIGMA, apart[1])
    assert high - low > 2 * (alone[1] - alone[0])


def test_a_view_that_knows_nothing_has_little_say():
    vague = np.full(SIGMA.bins, 1 / SIGMA.bins)
    found = posterior.pooled(SIGMA, np.array([bump(SIGMA, 2.0, 0.1), vague]))
    assert posterior.quantile(SIGMA, found, 0.5) == pytest.approx(2.0, abs=0.05)


def test_directions_are_pooled_across_the_end_of_their_range():
    angle = MotionBlur.keys[1]
    near = [np.roll(bump(angle, 90, 3), turn) for turn in (88, -88)]  # at 178 and 2 degrees
    found = posterior.pooled(angle, np.array(near))
    assert min(found.argmax(), 180 - found.argmax()) <= 3
    low, high = posterior.interval(angle, found)
    assert high - low < 30
