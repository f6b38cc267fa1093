"""What commit d0bc944 wrote opens, resumes and evaluates as it did there: a corpus, a policy, a run with a checkpoint.

tests/data/d0bc944.tar.xz holds them, made by that commit's own commands at 64 px with a policy of one layer.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from configs.run_folders import read_metrics, reopen
from configs.schema import World
from envs.corpus.reader import read_samples
from envs.world import policy_folder, world_taxonomy
from learner.distributed import checkpoint

ROOT = Path(__file__).parents[1]
SAMPLES = {  # the first digits of the SHA-256 of the degraded and the clean picture, as that commit reads them
    "train": [("9fc16adcc07eaa19", "998906477c5a3b9a"), ("a50296b527305ba8", "ab4435f3764d9a60")],
    "val": [("70523305cf5b430e", "12f5defef71f6e90")],
    "test": [("49bbd3563db8ff2e", "b5d5f44e44285ad7")],
}


@pytest.fixture
def earlier(tmp_path):
    with tarfile.open(ROOT / "tests" / "data" / "d0bc944.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def run(folder, *arguments):
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "duvlm.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr


def digest(picture):
    return hashlib.sha256(picture.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("split", SAMPLES)
def test_a_corpus_holds_the_same_pictures(earlier, split):
    samples = read_samples(earlier / "corpus", split, world_taxonomy(World(size=64)))
    assert [(digest(sample.degraded), digest(sample.clean)) for sample in samples] == SAMPLES[split]


def test_a_policy_a_checkpoint_and_the_settings_of_a_run_open(earlier):
    assert policy_folder(str(earlier / "policy"), World(size=64)) == earlier / "policy"
    job, config = reopen(earlier / "run", [f"corpus={earlier}/corpus"])
    assert (job, config.steps, config.world.size, config.learner.trained) == ("offline", 2, 64, "final_norm")
    newest = checkpoint.to_continue(earlier / "run" / "checkpoints", resume=True)
    assert checkpoint.step_of(newest) == 2


@pytest.mark.engine
@pytest.mark.slow
def test_a_run_resumes_where_it_stopped(earlier):
    before = read_metrics(earlier / "run" / "metrics.jsonl")
    run(earlier, "resume", "run", "steps=3")
    after = read_metrics(earlier / "run" / "metrics.jsonl")
    assert (after[:2], [line["step"] for line in after]) == (before, [1, 2, 3])
    assert json.loads((earlier / "run" / "summary.json").read_text())["steps"] == 3


@pytest.mark.engine
@pytest.mark.slow
def test_an_evaluation_gives_the_same_answers_and_numbers(earlier):
    settings = ["world.size=64", "corpus=corpus", "policy=policy", "rollout.max_tokens=16", "out=evaluate"]
    run(earlier, "run", "evaluate", *settings)
    (before,), (after,) = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (earlier / "answers.jsonl", earlier / "evaluate" / "answers.jsonl")
    )
    assert after["after"] == before["after"]
    assert after["truth"] == before["truth"]
    common = before["psnr"].keys() & after["psnr"].keys()
    assert len(common) >= 4
    for column in common:
        assert after["psnr"][column] == pytest.approx(before["psnr"][column], abs=0.002), column
