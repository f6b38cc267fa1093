"""`duvlm run offline grpo.estimator=fitted` as a whole, beside the same job with plain rewards."""

import math

import pytest
from running import duvlm, rows

SMALL = ["world=paper", "policy=shipped", "grpo.prompts=4", "rollout.group_size=8", "steps=2", "grpo.max_staleness=0"]
SMALL += ["reward.restorer=closed_form", "learner.checkpoint_every=2", "learner.micro_tokens=1000"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_a_job_learns_from_fitted_rewards(tmp_path):
    duvlm("corpus", "world=paper", "count=32", f"out={tmp_path / 'corpus'}")
    steps = {}
    for estimator in ("plain", "fitted"):
        out = tmp_path / estimator
        duvlm("offline", *SMALL, f"corpus={tmp_path / 'corpus'}", f"grpo.estimator={estimator}", f"out={out}")
        steps[estimator] = rows(out)
    plain, fitted = steps["plain"][0], steps["fitted"][0]
    assert fitted["sample_ids"] == plain["sample_ids"]
    assert fitted["reward"] == plain["reward"]  # the first step's answers are the same: what is learned of them differs
    assert fitted["grad_norm"] != plain["grad_norm"]
    assert "fitted" not in plain
    for row in steps["fitted"]:
        assert 0 < row["fitted"]["share"] <= 1
        assert math.isfinite(row["loss"])
        assert row["grad_norm"] > 0
