"""The estimates of `python -m benchmarks gradient` against the sum over the grid."""

import numpy as np
import pytest

from benchmarks.quality.analysis import gradient
from benchmarks.quality.analysis.beliefs import Belief, normal
from configs.load import load
from envs.taxonomy import TAXONOMY

BLUR = TAXONOMY.degradation("blur", {"sigma": 2.5})
LIGHT = TAXONOMY.degradation("low_light", {"gamma": 2.5, "gain": 0.07})


def rewards(belief: Belief) -> np.ndarray:
    away = np.meshgrid(*[np.log(axis / axis.mean()) for axis in belief.axes], indexing="ij")
    return -sum(each**2 for each in away) + 0.3 * np.prod(away, axis=0)


@pytest.mark.parametrize("truth", [BLUR, LIGHT], ids=["one number", "two"])
def test_plain_grpo_is_right_on_average_and_the_fit_is_right_at_once(truth):
    rng = np.random.default_rng(0)
    belief = normal(truth, 0.1, TAXONOMY, rng)
    worth = rewards(belief)
    exact = np.concatenate(gradient.exact(belief, worth))
    drawn = [belief.draw(8, rng) for _ in range(3000)]
    estimates = np.array([np.concatenate(gradient.plain(belief, each, worth)) for each in drawn])
    mean = estimates.mean(0) * 8 / 7  # the mean that is subtracted holds an eighth of each answer
    noise = np.square(estimates - exact).sum(1).mean() / len(drawn)
    assert np.square(mean - exact).sum() < 3 * noise
    fitted = np.array([np.concatenate(gradient.fitted(belief, each, worth)) for each in drawn[:100]])
    assert np.square(fitted - exact).sum(1).mean() < np.square(estimates - exact).sum(1).mean() / 20


def test_too_few_different_answers_stay_plain():
    belief = normal(BLUR, 0.1, TAXONOMY, np.random.default_rng(0))
    drawn = np.array([[3], [3], [9], [9]])
    worth = rewards(belief)
    pairs = zip(gradient.fitted(belief, drawn, worth), gradient.plain(belief, drawn, worth), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_a_belief_keeps_its_grid_and_sums_to_one():
    belief = normal(LIGHT, 0.2, TAXONOMY, np.random.default_rng(1))
    assert belief.first.sum() == pytest.approx(1)
    assert belief.second.sum(1) == pytest.approx(np.ones(len(belief.first)))
    assert [len(axis) for axis in belief.axes] == list(belief.second.shape)


def test_the_benchmark_measures_real_restorations():
    config = load("evaluate", ["world=paper", "photos=bundled", "limit=2", "reward.prior=gaussian"])
    figures = gradient.run(config, ["blur"], ["closed_form"], [8], [0.1], 4, False)
    (row,) = figures["rows"]
    assert figures["photographs"] == 2
    assert row["times"][0] > 5
    assert row["plain"][1] <= row["plain"][0] <= row["plain"][2]
    assert row["moved_fitted"][0] < row["moved_plain"][0]
