"""However a job ends, nothing of it is left: no actor, no engine, no cluster. Real jobs, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["learner.batch=4", "learner.micro_tokens=160", "grpo.prompts=1", "rollout.group_size=2", "steps=1000"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, "duvlm.py", "run", "corpus", "world=paper", "count=12", f"out={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return folder


class Job:
    """A job in a process group of its own, as a shell would start it, in the middle of its work."""

    def __init__(self, job, corpus, folder, *settings):
        command = [sys.executable, "duvlm.py", "run", job, f"corpus={corpus}", f"out={folder}", *SMALL, *settings]
        self.log = (folder.parent / "log").open("w+")
        self.driver = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log, start_new_session=True)
        metrics, ends = folder / "metrics.jsonl", time.monotonic() + 300
        while not (metrics.exists() and metrics.read_text().count("\n")):
            assert self.driver.poll() is None, self.said()
            assert time.monotonic() < ends, self.said()
            time.sleep(0.2)
        self.processes = psutil.Process(self.driver.pid).children(recursive=True)

    def named(self, start):
        """Those of its processes whose title begins like that."""
        return [p for p in self.processes if p.is_running() and " ".join(p.cmdline()).startswith(start)]

    def end(self, how, seconds=60):
        """Exit status of the driver, once nothing of the job is left."""
        how(self)
        status = self.driver.wait(seconds)
        left = psutil.wait_procs(self.processes, timeout=90)[1]
        titles = [" ".join(p.cmdline()).strip() for p in left if p.is_running()]
        for process in left:
            process.kill()
        assert titles == [], self.said()
        return status

    def said(self):
        self.log.seek(0)
        return self.log.read()[-3000:]


def ctrl_c(job):
    os.killpg(job.driver.pid, signal.SIGINT)  # a terminal sends it to the whole group


def terminate(job):
    job.driver.send_signal(signal.SIGTERM)


def terminate_all(job):
    os.killpg(job.driver.pid, signal.SIGTERM)  # timeout(1), systemd and scancel send it to Ray's processes too


def kill(job):
    job.driver.kill()


def lose_a_rank(job):
    job.named("ray::LearnerWorker")[0].kill()


@pytest.mark.chaos
def test_a_local_cluster_whose_node_hangs_while_it_starts_is_one_clear_message(tmp_path):
    """Its raylet is stopped as soon as it is there; Ray waits half a minute for it."""
    command = [sys.executable, "duvlm.py", "run", "corpus", "count=8", f"out={tmp_path / 'out'}"]
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    job = psutil.Popen(command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    family: list[psutil.Process] = []
    while not (raylets := [process for process in family if process.name() == "raylet"]):
        assert job.poll() is None
        time.sleep(0.01)
        family = job.children(recursive=True)
    raylets[0].suspend()
    family = job.children(recursive=True)
    said = job.communicate(timeout=150)[0]
    assert job.returncode == 2
    assert "timed out during startup" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    assert not [process for process in psutil.wait_procs(family, timeout=30)[1] if process.is_running()]


@pytest.mark.chaos
@pytest.mark.parametrize("how", [terminate, terminate_all])
def test_sigterm_ends_a_job_and_all_that_it_started(how, corpus, tmp_path):
    job = Job("sft", corpus, tmp_path / "run")
    assert len(job.named("ray::LearnerWorker")) == 2
    assert job.end(how, seconds=30) == 143
    assert "Traceback" not in job.said()


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("how", "status"), [(ctrl_c, 130), (terminate, 143), (lose_a_rank, 1), (kill, -9)], ids=lambda value: str(value)
)
def test_an_rl_job_leaves_nothing_behind(how, status, corpus, tmp_path):
    job = Job("offline", corpus, tmp_path / "run")
    for title in ("ray::LearnerWorker", "ray::RewardActor", "ray::RolloutActor", "VLLM::EngineCore"):
        assert job.named(title), title
    assert job.end(how) == status
    assert not (tmp_path / "run" / "summary.json").exists()
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.chaos
def test_an_rl_job_that_lost_a_rank_goes_on_by_itself_from_its_newest_checkpoint(corpus, tmp_path):
    job = Job("offline", corpus, tmp_path / "run", "steps=10", "max_failures=1", "learner.checkpoint_every=1")
    lose_a_rank(job)
    assert job.driver.wait(300) == 0, job.said()
    assert "starts again from the newest checkpoint (1 left)" in job.said()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 10
