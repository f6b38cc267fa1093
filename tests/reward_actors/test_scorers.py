"""What a restoration is worth."""

import dataclasses

import numpy as np
import pytest

from configs import UserError
from reward_actors.scorers import SCORERS, score


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_truth_scores_higher_than_the_degraded_picture(samples, photo, scorer):
    for sample in samples:
        truth, _ = score(scorer, (photo / 255).astype(np.float32), sample, sample.degradation)
        spoilt, _ = score(scorer, (sample.degraded / 255).astype(np.float32), sample, sample.degradation)
        assert truth > spoilt


def test_the_reward_is_minus_the_mean_squared_error_on_the_unit_range(samples):
    """Eq. 28."""
    sample = dataclasses.replace(samples[0], clean=np.zeros((8, 8, 3), np.uint8))
    reward, parts = score("mse", np.full((8, 8, 3), 0.5, np.float32), sample, sample.degradation)
    assert reward == pytest.approx(-0.25)
    assert parts["psnr"] == pytest.approx(6.0206, abs=1e-3)


def test_every_valid_restoration_beats_a_gated_answer(samples):
    sample = dataclasses.replace(samples[0], clean=np.full((8, 8, 3), 255, np.uint8))
    assert score("mse", np.full((8, 8, 3), 0.01, np.float32), sample, sample.degradation)[0] > -1


def test_consistency_needs_no_truth_and_is_perfect_for_the_true_picture(samples, photo):
    sample = dataclasses.replace(samples[2], clean=None)
    reward, parts = score("consistency", (photo / 255).astype(np.float32), sample, sample.degradation)
    assert reward == pytest.approx(0, abs=1e-9)
    assert "mse" not in parts


def test_a_scorer_without_its_truth_says_so(samples):
    sample = dataclasses.replace(samples[0], clean=None)
    with pytest.raises(UserError, match="needs the clean picture"):
        score("mse", np.zeros((64, 64, 3), np.float32), sample, sample.degradation)
