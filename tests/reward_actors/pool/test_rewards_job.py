"""`duvlm run rewards` as a whole: found by name, scaled, used by two jobs, and gone when it is ended. Minutes, because
whole jobs start."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import duvlm
from configs.cluster import scaling as control

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[3]
POOL = ["world.size=128", "reward.actors=1", "reward.cpus=0.05"]
SMALL = ["steps=2", "grpo.prompts=2", "rollout.group_size=4", "learner.micro_tokens=320", "learner.ranks=1"]
SMALL += ["rollout.cpus=0.3", "learner.cpus=0.1", "rollout.kv_cache_gb=0.2"]


def start(log, *arguments):
    command = [sys.executable, "duvlm.py", "run", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True)


def wait_for(words, log, job, seconds=200):
    ends = time.monotonic() + seconds
    while not re.search(words, log.read_text()):
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def address(ray_cluster):
    return ray_cluster.get_runtime_context().gcs_address


@pytest.fixture
def pool(address, tmp_path):
    """A running job `rewards`: its process and its log."""
    log = tmp_path / "pool.log"
    job = start(log, "rewards", "--address", address, "name=ours", f"out={tmp_path}/ours/rewards", *POOL)
    wait_for("the pool is open: reward.pool=ours", log, job)
    yield job, log
    if job.poll() is None:
        job.kill()


def test_a_pool_is_scaled_by_its_desk_and_ends_with_all_that_is_of_it(pool, address, ray_cluster, capsys, monkeypatch):
    job, log = pool
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert duvlm.main(["run", "rewards", "name=ours", *POOL]) == 2
    assert "a pool of that name runs already" in capsys.readouterr().err
    assert control.scale_rewards(control.ScaleRequest(2, 2), "ours/rewards").endswith("ours/rewards")
    wait_for("2 reward actors, 0 queries wait", log, job)
    host = ray_cluster.get_actor("pool:ours", namespace=control.NAMESPACE)
    mine = [psutil.Process(pid) for pid in ray_cluster.get(host.processes.remote()).values()]
    assert len(mine) == 2
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait(60) == 143
    assert "Traceback" not in log.read_text()
    assert psutil.wait_procs(mine, timeout=30)[1] == []
    assert control.pools() == []


def test_two_jobs_on_one_corpus_learn_from_one_pool(pool, address, tmp_path):
    subprocess.run(
        [sys.executable, "duvlm.py", "run", "corpus", "world=paper", "count=24", f"out={tmp_path}/corpus"],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    shared = ["--address", address, f"corpus={tmp_path}/corpus", "reward.pool=ours", *SMALL]
    jobs = [start(tmp_path / f"{name}.log", "offline", f"out={tmp_path}/{name}", *shared) for name in "ab"]
    for name, job in zip("ab", jobs, strict=True):
        said = tmp_path / f"{name}.log"
        assert job.wait(900) == 0, said.read_text()
        assert "reward actor (" not in said.read_text()  # none in its plan
    rows = [json.loads(line) for name in "ab" for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    asked, restored = (sum(row["rewards"][key] for row in rows) for key in ("asked", "restored"))
    assert 0 < restored < asked  # the same pictures and the same warm start: much is asked by both
    assert all(row["rewards"]["actors"] == 1 for row in rows)
