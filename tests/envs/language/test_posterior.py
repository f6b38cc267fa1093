import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
