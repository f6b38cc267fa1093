"""Propositions 4.1 and 4.2 on cases where the answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.analysis.bounds import (
    DELTAS,
    Numbers,
    delta_of,
    likelihood,
    measure_bounds,
    regression,
    to_grid,
)
from envs.language.posterior import Posterior
from envs.language.reading import read_degradation
from envs.taxonomy import TAXONOMY

SIGMA, GAIN, SCALE = (TAXONOMY.keys[name] for name in ("sigma", "gain", "scale"))


def numbers(true, said, densities=None) -> Numbers:
    true, said = np.array(true, float), np.array(said, float)
    return Numbers(true, said, said != 0, tuple(densities or [None] * len(true)))


def test_the_grid_scales_each_step_and_leaves_integers():
    assert [delta_of(SIGMA, delta) for delta in DELTAS] == pytest.approx([0.1, 0.05, 0.01])
    assert [delta_of(GAIN, delta) for delta in DELTAS] == pytest.approx([0.01, 0.005, 0.001])
    assert {delta_of(SCALE, delta) for delta in DELTAS} == {1}


@given(st.lists(st.floats(0.3, 12), min_size=1, max_size=30), st.sampled_from(DELTAS))
def test_right_bins_cost_at_most_a_quarter_of_delta_squared(true, delta):
    """Equation 23: an answer in the true bin is off by Delta/2 at most."""
    found = regression(SIGMA, numbers(true, to_grid(np.array(true), SIGMA, delta)), delta, 0.0)
    assert found["wrong_bins"] == 0
    assert found["mse"] <= found["quantisation"] + 1e-12


@given(st.lists(st.tuples(st.floats(0.3, 12), st.floats(0.3, 12) | st.just(0.0)), min_size=1, max_size=30))
def test_the_error_never_exceeds_the_bound_by_bins(pairs):
    """Equations 22 to 24, zero predictions included."""
    found = regression(SIGMA, numbers(*zip(*pairs, strict=True)), 0.1, 0.0)
    assert found["mse"] <= found["bound_bins"] + 1e-9
    assert found["bound_bins"] <= found["quantisation"] + found["largest"]


def test_the_token_loss_becomes_the_regression_loss_on_a_fine_grid():
    """Equation 13: the gap closes as Delta falls, as Delta^2/(24 s^2)."""
    residual = np.random.default_rng(0).normal(0, 0.1, 20_000)
    gaps = [likelihood(SIGMA, numbers(5 + residual, [5.0] * len(residual)), delta)["gap"] for delta in DELTAS]
    assert abs(gaps[0]) > abs(gaps[1]) > abs(gaps[2])
    assert gaps[0] == pytest.approx(0, abs=0.05)
    assert abs(gaps[2]) < 1e-3
    found = likelihood(SIGMA, numbers(5 + residual, [5.0] * len(residual)), 0.01)
    assert found["exact"] == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.1**2) - math.log(0.01), abs=0.02)
    assert found["excess_kurtosis"] == pytest.approx(0, abs=0.15)


def test_a_known_density_is_measured_where_the_truth_lies():
    density = np.zeros(SIGMA.bins, np.float32)
    grid = list(SIGMA.grid())
    density[grid.index(2.0)], density[grid.index(2.04)], density[grid.index(3.0)] = 0.25, 0.25, 0.5
    found = {d: likelihood(SIGMA, numbers([2.0], [2.1], [density]), delta_of(SIGMA, d))["measured"] for d in DELTAS}
    assert found[0.01] == pytest.approx(math.log(4))
    assert found[0.1] == pytest.approx(math.log(2))  # 2.00 and 2.04 share a bin of .1 around 2.0


def test_perfect_answers_have_no_error_and_no_risk():
    truths = [TAXONOMY.degradation("blur", {"sigma": 2.0}), TAXONOMY.degradation("low_resolution", {"scale": 3})]
    sure = np.zeros(SIGMA.bins, np.float32)
    sure[list(SIGMA.grid()).index(2.0)] = 1
    beliefs = [(Posterior("sigma", 0, 1.0, sure),), ()]
    found = measure_bounds(truths, [read_degradation(truth) for truth in truths], beliefs, TAXONOMY)
    for delta in ("0.1", "0.05", "0.01"):
        assert found["classification"][delta]["error"] == 0
        assert found["classification"][delta]["bound"] == pytest.approx(0)
        assert found["regression"][delta]["sigma"]["mse"] == pytest.approx(0)
        assert found["likelihood"][delta]["sigma"]["measured"] == pytest.approx(0)


def test_wrong_answers_everywhere_still_give_finite_numbers():
    truths = [TAXONOMY.degradation("blur", {"sigma": 2.0})] * 3
    found = measure_bounds(truths, [read_degradation(None)] * 3, [()] * 3, TAXONOMY)
    assert found["classification"]["0.01"]["error"] == 1
    assert found["regression"]["0.01"]["sigma"]["mse"] == pytest.approx(4)
    assert found["likelihood"]["0.01"]["sigma"]["samples"] == 0
