"""Jobs killed in the middle and run again, against the same jobs left alone. Minutes: engines start thrice in each."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[3]
STEPS = 6
SMALL = [f"steps={STEPS}", "learner.checkpoint_every=2", "learner.micro_tokens=320", "learner.batch=4"]
SMALL += ["grpo.prompts=2", "rollout.group_size=4"]
TIMES = {"seconds", "seconds_prepare", "samples_per_second", "mfu"}  # differ from run to run

pytestmark = [pytest.mark.engine, pytest.mark.chaos, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Fewer training samples than a run shows: the end of an epoch falls into it."""
    folder = tmp_path_factory.mktemp("resume") / "corpus"
    run("corpus", "world=paper", "count=12", f"out={folder}").check_returncode()
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "duvlm.py", "run", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess:
    done = subprocess.run(command(*arguments), cwd=PROJECT, capture_output=True, text=True, timeout=700)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    return done


def rows(out: Path) -> list[dict]:
    file = out / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def kill_after(steps: int, out: Path, *arguments: str) -> None:
    """SIGKILL to a job and all its processes as soon as it has logged so many steps."""
    job = psutil.Popen(command(*arguments), cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 600
    while len(rows(out)) < steps:
        assert job.poll() is None, "the job ended before it was killed"
        assert time.monotonic() < ends
        time.sleep(0.05)
    family = job.children(recursive=True)
    os.kill(job.pid, signal.SIGKILL)
    for child in family:
        if child.is_running():
            child.kill()
    psutil.wait_procs([job, *family], timeout=60)


def whole_and_broken(tmp_path, *arguments: str) -> tuple[list[dict], list[dict]]:
    """The rows of an undisturbed run, and of one killed after its third step (a step after a checkpoint)."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(*arguments, *SMALL, f"out={whole}")
    kill_after(3, broken, *arguments, *SMALL, f"out={broken}")
    assert (broken / ".lock").exists()  # the killed job's: it locks nothing
    assert "continuing from" in run(*arguments, *SMALL, f"out={broken}").stdout
    return rows(whole), rows(broken)


@pytest.mark.parametrize("estimator", ["plain", "fitted"])
def test_a_killed_rl_job_goes_on_to_the_bit(corpus, tmp_path, estimator):
    on_policy = ["grpo.max_staleness=0", "grpo.refill=1", f"grpo.estimator={estimator}"]
    whole, broken = whole_and_broken(tmp_path, "offline", f"corpus={corpus}", *on_policy)
    assert [row["step"] for row in broken] == list(range(1, STEPS + 1))
    exact = ("sample_ids", "reward", "spread", "gated", "scored", "refilled", "loss", "grad_norm", "policy_kl")
    for here, there in zip(whole, broken, strict=True):
        assert {name: here[name] for name in exact} == {name: there[name] for name in exact}
    seen = [sample_id for row in whole for sample_id in row["sample_ids"]]
    assert len(set(seen)) < len(seen)  # the end of an epoch was among them


def test_with_stale_weights_no_prompt_is_lost_or_repeated(corpus, tmp_path):
    whole, broken = whole_and_broken(tmp_path, "offline", f"corpus={corpus}", "grpo.max_staleness=1")
    assert [row["sample_ids"] for row in broken] == [row["sample_ids"] for row in whole]
    assert [row["step"] for row in broken] == list(range(1, STEPS + 1))


def test_a_killed_sft_job_goes_on_to_the_bit(corpus, tmp_path):
    whole, broken = whole_and_broken(tmp_path, "sft", f"corpus={corpus}", "learner.refresh=true")
    for here, there in zip(whole, broken, strict=True):
        assert {k: v for k, v in here.items() if k not in TIMES} == {k: v for k, v in there.items() if k not in TIMES}
