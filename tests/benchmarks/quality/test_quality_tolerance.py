"""Correlations of error and quality, the bias of scores, and the tables that show them, on made-up restorations."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from benchmarks.quality.analysis import bias, tolerance
from benchmarks.quality.analysis.restorers import compare
from benchmarks.quality.columns import Task, columns_of, first_of_each
from benchmarks.quality.measures import LOWER, Quality
from benchmarks.quality.report.table import Table, flatten
from benchmarks.quality.summary import key_distribution, named_keys, no_reference_means
from envs.language.reading import Reading, read_degradation
from envs.taxonomy import TAXONOMY
from reward_actors.scoring.no_reference import OURS


def blur(sigma):
    return TAXONOMY.degradation("blur", {"sigma": sigma})


def test_an_error_that_costs_decibels_correlates_and_photographs_add_noise():
    rng = np.random.default_rng(0)
    errors, ease = rng.uniform(0, 1, 40), rng.normal(30, 3, 40)
    truths, answers = [blur(4.0)] * 40, [read_degradation(blur(4.0 + error)) for error in errors]
    qualities = {
        "after": [Quality(e - 5 * d, 0.8) for e, d in zip(ease, errors, strict=True)],
        "true parameters": [Quality(e, 0.8) for e in ease],
    }
    found = tolerance.correlations(tolerance.points(truths, answers, qualities))["sigma"]
    assert found["psnr_change"]["pearson"][0] == pytest.approx(-1, abs=1e-3)
    assert -0.9 < found["psnr"]["pearson"][0] < -0.1
    assert found["ssim"]["pearson"] is None  # constant
    assert found["psnr"]["samples"] == 40


def test_a_correlation_comes_with_the_interval_of_fisher():
    rng = np.random.default_rng(1)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    found = tolerance.correlate(x, y)
    reference = stats.pearsonr(x, y)
    interval = reference.confidence_interval()
    assert found["pearson"] == pytest.approx([reference.statistic, interval.low, interval.high])
    assert found["spearman"][1] < stats.spearmanr(x, y).statistic < found["spearman"][2]


def test_answers_of_another_type_have_no_error_to_correlate():
    truths = [blur(2.0)] * 2
    answers = [Reading("haze", True, TAXONOMY.degradation("haze", {"atmospheric_light": 0.5, "transmission": 0.5}))]
    answers += [Reading(reason="no_answer")]
    columns = {"after": [Quality(1, 1)] * 2, "true parameters": [Quality(1, 1)] * 2}
    assert tolerance.points(truths, answers, columns) == []


def test_a_score_that_likes_too_little_gamma_is_found_out():
    """PIQE falls as gamma falls here, lower being better: its optimum is the smallest factor, PSNR's is the truth."""
    found = {
        (number, "gamma", factor): Quality(30 - abs(factor - 1), 0.9, {"piqe": 50 * factor})
        for number in range(3)
        for factor in bias.FACTORS
    }
    summary = bias.summarise(bias.rows(found))
    assert summary["psnr"]["gamma"]["optimum"] == 1
    assert summary["psnr"]["gamma"]["prefers_truth"] == 1
    assert summary["piqe"]["gamma"]["optimum"] == min(bias.FACTORS)
    assert summary["piqe"]["gamma"]["prefers_truth"] == pytest.approx(3 / 6)  # against the three larger factors


def test_scaled_parameters_stay_in_the_taxonomy():
    assert bias.scaled(blur(10.0), "sigma", 1.6, TAXONOMY) is None
    assert bias.scaled(blur(2.0), "sigma", 1.6, TAXONOMY) == blur(3.2)
    scale = TAXONOMY.degradation("low_resolution", {"scale": 2})
    assert bias.scaled(scale, "scale", 1.1, TAXONOMY) is None  # a factor that changes nothing says nothing
    assert bias.scaled(scale, "scale", 1.0, TAXONOMY) == scale
    wanted = bias.tasks([blur(2.0)], [0], TAXONOMY)
    assert {factor for _, _, factor in wanted} == set(bias.FACTORS)


def test_each_column_says_how_a_sample_is_restored():
    truths, after = [blur(2.0), blur(3.0)], [blur(2.5), None]
    columns = columns_of(truths, {"after": after})
    assert [task.method for task in columns["after"]] == ["diffusion", "none"]
    assert [task.method for task in columns["classical, after"]] == ["classical", "none"]
    assert columns["true parameters"][1] == Task("diffusion", blur(3.0), scored=True, shown=True)
    assert first_of_each([*truths, TAXONOMY.degradation("low_resolution", {"scale": 2})], 1) == {0, 2}


def test_no_reference_scores_are_averaged_over_the_scored_samples():
    column = [Quality(1, 1, {"piqe": 10.0}), Quality(1, 1, {"piqe": 30.0}), Quality(1, 1)]
    found = no_reference_means({"after": column}, [blur(2.0)] * 3)["all"]["after"]
    assert (found["piqe"], found["samples"]) == (20, 2)
    assert no_reference_means({"after": column[2:]}, [blur(2.0)]) == {}


def test_a_bar_is_met_or_missed_against_the_best_classical_method():
    found = compare("blur", [20.0, 20.0], {"a": [25.0, 27.0], "b": [24.0, 24.0]}, {"x": [25.0, 27.1], "y": [9.0, 9.0]})
    assert (found["best_classical"], found["best_restorer"], found["meets_bar"]) == ("a", "x", True)
    assert found["restorers"]["x"]["gain"][0] == pytest.approx(0.05)
    tie = {"x": [25.0, 26.9]}
    assert not compare("blur", [20.0] * 2, {"a": [25.0, 27.0]}, tie)["meets_bar"]
    assert compare("haze", [20.0] * 2, {"a": [25.0, 27.0]}, tie)["meets_bar"]


def test_every_distance_computed_here_is_better_when_lower():
    assert set(OURS) <= set(LOWER)


def test_a_picture_without_a_score_is_left_out_of_its_tables():
    places = [(i, factor) for i in (0, 1) for factor in (0.6, 1.0, 1.6)]
    table = [{"sample": i, "key": "sigma", "factor": factor, "psnr": 30 - abs(factor - 1)} for i, factor in places]
    table = [row | ({"piqe": abs(row["factor"] - 1)} if row["sample"] else {}) for row in table]
    found = bias.summarise(table)
    assert (found["piqe"]["sigma"]["optimum"], found["piqe"]["sigma"]["prefers_truth"]) == (1.0, 1.0)
    qualities = [Quality(30, 0.9, scores) for scores in ({"niqe": 4.0, "piqe": 20.0}, {"niqe": 6.0})]
    cell = no_reference_means({"after": qualities}, [blur(2.0)] * 2)["blur"]["after"]
    assert (cell["niqe"], cell["piqe"], cell["samples"]) == (5.0, 20.0, 2)


def test_the_keys_of_an_answer_are_read_even_if_it_is_invalid():
    assert named_keys("[T-haze][K-sigma][V-9][K-what][V-1]") == ("sigma", "what")
    assert named_keys({"type": "blur", "values": {"sigma": 1, "gain": 2}}) == ("sigma", "gain")
    said = 'It is hazy: {"type": "haze", "values": {"transmission": 0.4, "depth": [1, 2]}}'
    assert named_keys(said) == ("transmission", "depth")
    for nothing in (None, 7, {"values": 3}, "I cannot tell."):
        assert named_keys(nothing) == ()
    table = key_distribution([blur(2.0)] * 2, ["[K-sigma][K-what]", None], TAXONOMY)["blur"]
    assert (table["sigma"], table["other"], table["no key"]) == (1, 1, 1)


def test_nested_results_become_flat_records():
    assert flatten({"a": {"b": {"x": 1.5, "y": [0, 2]}}}, "one", "two") == [
        {"one": "a", "two": "b", "x": 1.5, "y_1": 0, "y_2": 2}
    ]


def test_a_table_shows_the_same_everywhere_and_keeps_its_numbers_whole(tmp_path):
    records = [{"name": "first", "count": 3, "share": 1 / 3}, {"name": "<b>", "count": None, "other": 7}]
    table = Table.of("title", [["", "share"], ["first", "0.333"], ["<b>", "-" * 80]], records)
    table.write_csv(tmp_path / "deep" / "table.csv")
    assert list(csv.DictReader((tmp_path / "deep" / "table.csv").open())) == [
        {"name": "first", "count": "3", "share": repr(1 / 3), "other": ""},
        {"name": "<b>", "count": "", "share": "", "other": "7"},
    ]
    assert table.markdown().splitlines()[:3] == ["|  | share |", "|---|---|", "| first | 0.333 |"]
    assert "&lt;b&gt;" in table.html()
    assert "-" * 80 in table.html()
    console = Console(width=120, record=True, file=io.StringIO())
    table.print(console)
    assert "0.333" in console.export_text()
