"""The tables of restorers under fixed degradations, and of how rewards rank, on real restorations."""

import json

import numpy as np
import pytest

from benchmarks.quality.analysis import ranking, restorers
from configs import UserError
from configs.load import load

PHOTOGRAPHS = ["photos=bundled", "limit=2", "world=paper", "world.size=64", "reward.prior=gaussian"]


def test_fixed_degradations_are_restored_at_their_values_and_beside_them():
    config = load("evaluate", PHOTOGRAPHS)
    figures = restorers.run(config, ["closed_form", "fast", "hqs:3"], ["blur:1.2", "low_resolution:2"])
    blur, low = (figures["types"][label] for label in ("blur 1.2", "low_resolution 2"))
    assert set(blur["off"]) == set(restorers.OFF)
    assert not low["off"]  # a scale is never 15 % off
    assert blur["samples"] == 2
    at_truth = blur["restorers"]["closed_form"]["psnr"]
    assert at_truth > blur["degraded"]
    assert all(cells["closed_form"]["psnr"] < at_truth for cells in blur["off"].values())
    assert all(cells["closed_form"]["gain"] == [0, 0, 0] for cells in blur["off"].values())
    assert blur["restorers"]["closed_form"]["gain"] == [0, 0, 0]  # the classical method is the same filter


@pytest.mark.parametrize("wrong", ["blur", "blur:1,2", "frost:1", "blur:wide"])
def test_a_case_that_is_none_is_refused_in_one_sentence(wrong):
    with pytest.raises(UserError, match="a number for each of its keys, .*blur:sigma"):
        restorers.run(load("evaluate", PHOTOGRAPHS), ["closed_form"], [wrong])


def test_rewards_rank_by_nearness_and_are_computed_once(tmp_path):
    config, kept = load("evaluate", PHOTOGRAPHS), tmp_path / "scores.json"
    options = (["blur"], ["closed_form", "hqs"], [0.2], 6, "closed_form", 1, kept)
    figures = ranking.run(config, *options)
    assert [row["restorer"] for row in figures["rows"]] == ["closed_form", "hqs"]
    for row in figures["rows"]:
        assert (row["groups"], row["spread"], row["condition"]) == (2, "20%", "none")
        assert row["spearman"][0] > 0.7
        assert row["regret"][0] >= 0
    assert figures["rows"][0]["reference"] == pytest.approx([1, 1, 1, 1])
    scores = json.loads(kept.read_text())
    assert len(scores) == 4
    kept.write_text(json.dumps({key: [-1 - score for score in some] for key, some in scores.items()}))
    turned = ranking.run(config, *options)
    assert turned["rows"][0]["spearman"][0] == pytest.approx(-figures["rows"][0]["spearman"][0])


def test_noise_that_nobody_names_spoils_the_ranking_of_rewards_that_do_not_look_for_it():
    options = (["blur"], ["closed_form"], [0.1], 8, "", 2, None)
    clean, common = ranking.run(load("evaluate", [*PHOTOGRAPHS, "limit=6"]), *options)["rows"]
    _, looked_for = ranking.run(load("evaluate", [*PHOTOGRAPHS, "limit=6", "reward.noise=estimated"]), *options)["rows"]
    assert clean["spearman"][0] > 0.8
    assert common["spearman"][0] < looked_for["spearman"][0]


def test_a_group_without_a_ranking_does_not_count():
    near, rewards = [[-0.1, -0.1], [-0.1, -0.2, -0.3]], [[-1, -2], [-1e-2, -3e-2, -2e-2]]
    figures = ranking.measure(near, rewards, rewards)
    assert figures["groups"] == 1
    assert figures["spearman"][0] == pytest.approx(0.5)
    assert (figures["top1"][0], figures["regret"][0], figures["worst"]) == (1, 0, pytest.approx(0.5))
    assert figures["reference"][0] == pytest.approx(1)
    assert ranking.measure([[-0.1, -0.1]], [[-1, -2]]) == {"groups": 0}
    assert np.isclose(ranking.measure(near, [[-1, -2], [-3e-2, -2e-2, -1e-2]])["regret"][0], 0.2)
