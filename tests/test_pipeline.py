"""The whole idea in one go, every part real: photographs, Ray, DeepSpeed, vLLM, a diffusion prior."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from configs import load

PROJECT = Path(__file__).parent.parent
SMALL = ["learner.batch=8", "learner.micro_tokens=320", "grpo.prompts=2", "rollout.group_size=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: corpus, SFT from the shipped warm start, offline RL, evaluation of before and after."""
    folder = tmp_path_factory.mktemp("run")
    _duvlm("corpus", "count=60", f"out={folder}/corpus")
    _duvlm("sft", f"corpus={folder}/corpus", f"out={folder}/sft", "steps=2", "profile.steps=[2]", *SMALL)
    first = ("offline", f"corpus={folder}/corpus", f"policy={folder}/sft/policy", f"out={folder}/offline", *SMALL)
    traced = ["profile.steps=[1]", "profile.roles=[learner,reward,rollout]"]
    _duvlm(*first, "steps=2", "learner.checkpoint_every=1", *traced)
    _duvlm(*first, "steps=3", "learner.checkpoint_every=1")  # continues
    compared = [f"before={folder}/sft/policy", f"policy={folder}/offline/policy", "limit=4"]
    _duvlm("evaluate", f"corpus={folder}/corpus", f"out={folder}/evaluate", *compared)
    return folder


def _duvlm(*arguments: str) -> str:
    command = [sys.executable, "duvlm.py", "run", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    return done.stdout


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "offline" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_every_job_leaves_a_summary_and_the_evaluation_a_report(run):
    for job in ("sft", "offline", "evaluate"):
        assert json.loads((run / job / "summary.json").read_text())
    report = next(run.rglob("report.html")).read_text()
    assert not re.search(r'(src|href)="https?:', report)


@pytest.mark.engine
def test_each_rl_step_says_what_the_stages_did(run):
    steps = _metrics(run)
    assert [step["step"] for step in steps] == [1, 2, 3]
    for step in steps:
        assert step["completions"] == 8
        assert -1 <= step["reward"] < 0
        assert step["gate_rate"] == pytest.approx(sum(step["gated"].values()))
        assert 0 <= step["staleness"] <= 1
        assert set(step["busy"]) == set(step["idle"]) == {"rollout", "reward", "learner"}
        assert step["sync"]["bytes"] == 4 * 128  # the final norm of the language model
        assert step["sync"]["seconds"] > 0
        assert step["rewards"]["restored"] <= step["rewards"]["asked"]


@pytest.mark.engine
def test_a_traced_step_leaves_what_each_role_computed_and_no_other_step_does(run):
    ranks = [f"learner-{rank}.json.gz" for rank in range(2)]
    assert sorted(path.name for path in run.glob("sft/profile/*/*")) == ranks
    traces = sorted(run.glob("offline/profile/*/*"))
    assert {path.parent.name for path in traces} == {"step-1"}
    assert [path.name.partition(".")[0] for path in traces] == [
        "learner-0", "learner-1", "reward-0", "reward-1", "rollout-0_rank0"
    ]  # fmt: skip
    for path in [*traces, *run.glob("sft/profile/*/*")]:
        names = {event["name"] for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]}
        expected = {"learner": r"\w+Backward0", "reward": "aten::convolution", "rollout": "aten::(mm|addmm|linear)"}
        pattern = expected[path.name.partition("-")[0]]
        assert any(re.fullmatch(pattern, name) for name in names), path


@pytest.mark.engine
def test_learner_and_denoiser_say_what_share_of_the_peak_they_reach(run):
    for step in _metrics(run):
        assert 0 < step["mfu"] < 2  # on shared cores the peak itself is measured badly
        assert 0 <= step["rewards"]["mfu"] < 2
        assert step["rewards"]["mfu"] > 0 or not step["rewards"]["image_steps"]  # of a step that was gated whole
    assert all(0 < json.loads(line)["mfu"] < 2 for line in (run / "sft" / "metrics.jsonl").open())


@pytest.mark.engine
def test_engine_and_learner_agree_on_the_log_probs_of_what_was_sampled(run):
    """After weight updates too: stale caches or weights in the engine would show here."""
    for step in _metrics(run):
        lag = step["staleness"] > 0
        assert step["mismatch"] < (0.05 if lag else 1e-5)


@pytest.mark.engine
def test_the_policy_is_another_after_rl_and_close_to_where_it_began(run):
    before, after = (load_file(run / job / "policy" / "model.safetensors") for job in ("sft", "offline"))
    changes = {name: float((before[name].float() - after[name].float()).abs().max()) for name in before}
    trained = changes.pop("model.language_model.norm.weight")
    assert not any(changes.values())
    assert 0 < trained < 3 * load("offline").learner.lr  # AdamW goes no further in three steps


@pytest.mark.engine
def test_a_finished_run_is_not_trained_again(run):
    arguments = ["offline", f"corpus={run}/corpus", f"policy={run}/sft/policy", f"out={run}/offline", *SMALL]
    _duvlm(*arguments, "steps=3", "learner.checkpoint_every=1")
    assert len(_metrics(run)) == 3
