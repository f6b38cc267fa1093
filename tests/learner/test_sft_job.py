"""`duvlm run sft` as a whole: slow because it builds a corpus and starts two DeepSpeed ranks twice."""

import json
import math
import shutil

import pytest

from configs import UserError, load
from learner import sft


def config(out, *changes):
    small = ["steps=4", "learner.batch=4", "learner.checkpoint_every=2", "world.size=64"]
    return load("sft", ["policy=random", "count=40", f"out={out}", *small, *changes])


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    sft.run(config(whole))
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "policy")
    shutil.rmtree(broken / "checkpoints" / "step-00000004")
    sft.run(config(broken))
    weights = "policy/model.safetensors"
    assert (whole / weights).read_bytes() == (broken / weights).read_bytes()
    steps = [[json.loads(line)["step"] for line in (out / "metrics.jsonl").open()] for out in (whole, broken)]
    assert steps == [[1, 2, 3, 4]] * 2
    summary = json.loads((broken / "summary.json").read_text())
    assert summary["steps"] == 4
    assert 0 <= summary["val_j_acc"] <= 1


def test_a_batch_that_does_not_divide_over_ranks_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not divide"):
        sft.run(config(tmp_path, "learner.batch=5"))


@pytest.mark.parametrize(
    ("errors", "patience", "ends"),
    [
        ([], 1, False),
        ([0.3], 1, False),
        ([0.3, 0.3], 1, True),
        ([0.3, 0.2], 1, False),
        ([0.3, 0.2, 0.25, 0.21], 2, True),
        ([0.3, 0.2, 0.25, 0.19], 2, False),
        ([0.3, math.nan, 0.2], 2, False),
        ([0.3, math.nan, math.nan], 2, True),
        ([0.3] * 50, 0, False),
    ],
)
def test_patience_ends_a_run_after_so_many_validations_without_a_better_one(errors, patience, ends):
    assert sft.exhausted(errors, patience) is ends


def test_the_host_cannot_hold_an_optimiser_that_is_not_partitioned(tmp_path):
    with pytest.raises(UserError, match="learner.zero"):
        sft.run(config(tmp_path, "learner.memory=[offload]", "learner.zero=0"))


@pytest.mark.parametrize("trained", ["norms", "final_norm"])
def test_norms_have_no_adapters(tmp_path, trained):
    with pytest.raises(UserError, match="learner.lora"):
        sft.run(config(tmp_path, f"learner.trained={trained}", "learner.lora=4"))


def test_a_run_without_steps_is_refused(tmp_path):
    with pytest.raises(UserError, match="steps"):
        sft.run(config(tmp_path, "steps=0"))
