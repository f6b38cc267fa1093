"""The table of nuisances: its rows, and what it says of answers that are right, wrong or harm."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.analysis import nuisances
from benchmarks.quality.columns import Task
from benchmarks.quality.measures import Quality
from benchmarks.quality.report import nuisances as report
from configs.load import load
from envs.language.reading import Reading, read_degradation
from envs.taxonomy import world_taxonomy
from envs.types import Sample
from reward_actors.scoring.scorer import psnr

TAXONOMY = world_taxonomy(load("evaluate", ["world=open"]).world)
BLUR, NONE = TAXONOMY.degradation("blur", {"sigma": 2.0}), TAXONOMY.degradation("none", {})


@pytest.fixture
def samples(photo):
    return [Sample(f"s{i}", "p", "test", photo, photo, truth) for i, truth in enumerate((BLUR, NONE))]


def test_rows_are_those_that_were_asked_for(samples):
    names = [row.name for row in nuisances.ROWS]
    assert names[0] == "none"
    assert len(names) == 13
    assert len(set(names)) == 13
    for row in nuisances.ROWS:
        made = nuisances.sample_of(row, samples[0])
        assert made.degraded.shape == samples[0].clean.shape
        assert made.degradation == BLUR
        assert made.sample_id == f"s0~{row.name}"


def test_first_row_is_the_sample_itself_and_others_differ(samples):
    from envs.corpus.generate import degrade

    plain = degrade(samples[0].clean, BLUR)
    for number, row in enumerate(nuisances.ROWS):
        degraded = nuisances.sample_of(row, samples[0]).degraded
        assert np.array_equal(degraded, plain) == (number == 0), row.name


def test_answers_that_harm_are_told_from_those_that_help(samples):
    def ask(every):  # everything is blur: right for the first sample, wrong for the clean one
        return [read_degradation(BLUR) for _ in every]

    def restore(every, wanted):
        worse = {i: np.clip(every[i].degraded.astype(int) + 20, 0, 255).astype(np.uint8) for i, _ in wanted}
        pictures = {(i, task): worse[i] if task.degradation else every[i].degraded for i, task in wanted}
        return {key: Quality(psnr(made, every[key[0]].clean), None, picture=made) for key, made in pictures.items()}

    summary = nuisances.measure_rows(samples, TAXONOMY, ask, restore)
    row = summary["none"]
    assert row["j_acc"][0] == 0.5
    assert row["types"]["blur"]["j_acc"] == 1
    assert row["worse"] == 1
    assert row["gain"][0] < -nuisances.WORSE
    assert row["clean"] == {"none": 0.0, "changed": 1.0, "worst": pytest.approx(22.1, abs=0.5)}
    shown = report.table({"nuisances": summary})
    assert len(shown.cells) == 13
    assert shown.cells.iloc[0, 1].startswith("0.500")


def test_a_picture_that_is_left_is_not_harmed(samples):
    answers = [Reading(reason="no_answer"), read_degradation(NONE)]

    def restore(every, wanted):
        assert all(task == Task() for _, task in wanted)
        return {(i, task): Quality(psnr(every[i].degraded, every[i].clean), None) for i, task in wanted}

    summary = nuisances.measure_rows(samples, TAXONOMY, lambda every: answers * len(nuisances.ROWS), restore)
    for row in summary.values():
        assert row["gain"][0] == 0
        assert row["clean"] == {"none": 1.0, "changed": 0.0, "worst": 100.0}
