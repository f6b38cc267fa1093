"""The page about where a job's time went, from what a run leaves."""

import re
from pathlib import Path

import pytest

from benchmarks.throughput.page import throughput_page, totals, write_page
from configs import load
from configs.run_folders import read_metrics
from learner.logging.runlog import RunLog
from learner.rl.metrics import learner_idle, reward_idle, rollout_idle

BUSY = {"rollout": 1.0, "reward": 6.0, "learner": 0.5}


@pytest.fixture
def run(tmp_path) -> Path:
    """Four steps of 4 s: one engine, two reward actors, and a trace."""
    idle = {
        "rollout": vars(rollout_idle(4.0, 1, 1.0, 1.5, 0.0)),
        "reward": vars(reward_idle(4.0, 2, 6.0, 0.5)),
        "learner": vars(learner_idle(4.0, 0.5, 0.3)),
    }
    with RunLog(tmp_path / "first" / "offline", "offline", load("offline"), 4) as log:
        for step in range(1, 5):
            rewards = {"actors": 2, "asked": 16, "restored": 12, "image_steps": 24, "queued": 3, "queue_age": 0.5}
            share = {"rollout": 0.25, "reward": 0.75, "learner": 0.125}
            times = {"step_seconds": 4.0, "busy": BUSY, "busy_share": share, "idle": idle, "tokens_per_second": 50.0}
            log.step(step, {"completions": 32, "rewards": rewards, **times})
            log.span("rollout", "engine", f"step {step} a", 100 + 4 * step, 1.0)
            log.span("reward", "pool", f"step {step} a", 101 + 4 * step, 2.0)
            log.span("learner", "ranks", f"step {step}", 103 + 4 * step, 0.5)
    return tmp_path / "first" / "offline"


def test_every_second_of_a_role_is_busy_or_idle_for_a_reason(run):
    shares = totals(read_metrics(run / "metrics.jsonl"))
    assert shares["reward"] == pytest.approx({"busy": 0.75, "starved": 0.1875, "blocked": 0.0, "restarting": 0.0625})
    for parts in shares.values():
        assert sum(parts.values()) == pytest.approx(1.0)


def test_the_page_says_what_was_done_a_second_and_needs_nothing_from_outside(run):
    page = re.sub(r">\s+<", "><", write_page(run).read_text())
    assert "4 steps in 16 s, 4.00 s a step" in page
    assert "<td>completions</td><td>128</td><td>8</td>" in page
    assert "<td>restorations</td><td>48</td><td>3</td>" in page
    assert page.count("<svg") == 3
    assert "first/offline" in page
    assert not re.search(r'(src|href)="https?:', page)


def test_a_run_without_a_step_gets_a_page_that_says_so(tmp_path):
    assert "No step was finished yet" in throughput_page(tmp_path)
