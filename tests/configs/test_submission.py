"""Jobs on a real Ray cluster with token authentication, through the real command line."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from aiohttp import ServerDisconnectedError
from ray.job_submission import JobDetails, JobStatus, JobType
from requests import RequestException

import duvlm
from configs.cluster import submission

ROOT = Path(__file__).parents[2]


def test_paths_that_exist_here_are_sent_absolute_and_so_is_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    command = submission.entrypoint("corpus", ["photos=photos", "count=3", "name=a"])
    sent = f"photos=photos count=3 name=a photos={tmp_path}/photos out={tmp_path}/runs/a/corpus"
    assert f" duvlm.py run corpus {sent}" in command
    assert f"probe={tmp_path}/photos" in submission.entrypoint("online", ["probe=photos"])
    (tmp_path / "fit.npz").touch()
    assert f"reward.scorer=[mse,contrast:2@{tmp_path}/fit.npz]" in submission.entrypoint(
        "online", ["reward.scorer=[mse,contrast:2@fit.npz]"]
    )
    assert f"out={tmp_path}/there" in submission.entrypoint("corpus", ["out=there"])


def test_json_reaches_the_cluster_s_shell_in_one_piece():
    degradation = 'degradation={"type": "blur", "values": {"sigma": 2.0}}'
    command = submission.entrypoint("restore", [degradation, "image=a b.png"]).replace("exec", "printf '%s\\n'", 1)
    printed = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert degradation in printed
    assert "image=a b.png" in printed


class Agents:
    """In place of Ray's client: a cluster whose agents are ready at the third try, or never."""

    def __init__(self, ready=2):
        self.tries, self._ready, self.sent = 0, ready, []

    def submit_job(self, runtime_env, **_):
        folder = Path(runtime_env["working_dir"])
        self.tries += 1
        self.sent = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
        if self.tries <= self._ready:
            raise RuntimeError("Request failed with status code 500: No available agent to submit job, try again.")
        return "raysubmit_x"


def test_submit_waits_for_an_agent_and_says_so_and_sends_the_project_alone(monkeypatch, capsys):
    client = Agents()
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: client)
    monkeypatch.setattr(submission, "LOOK_SECONDS", 0)
    assert duvlm.main(["submit", "sft", "--no-follow", "--address", "http://127.0.0.1:9"]) == 0
    size, waits = capsys.readouterr().out.splitlines()[:2]
    assert waits.startswith("waiting up to 60 s for an agent of the cluster")
    assert 10 < float(re.search(r"own modules, (\S+) MB", size)[1]) < 100
    kept = {"configs", "envs", "rollout", "reward_actors", "learner", "benchmarks", "service", "duvlm.py"}
    assert {path.parts[0] for path in client.sent} == kept
    assert Path("learner/weights/policy/model.safetensors") in client.sent
    assert not any("__pycache__" in path.parts for path in client.sent)


def test_submit_gives_up_on_a_cluster_whose_agent_has_no_port(monkeypatch, capsys):
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: Agents(ready=1000))
    monkeypatch.setattr(submission, "AGENT_SECONDS", 0.0)
    assert duvlm.main(["submit", "sft", "--no-follow", "--address", "http://127.0.0.1:9"]) == 2
    assert "Ray's agent on each listens on port 52365" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "named"), [("http://127.0.0.1:9", False), ("http://localhost:9", False), ("http://cluster:9", True)]
)
def test_a_proxy_is_named_where_it_stood_between_and_is_not_asked_for_this_machine(monkeypatch, capsys, address, named):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    client = Dashboard(RequestException("connection refused"))
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: client)
    assert duvlm.main(["logs", "x", "-f", "--address", address]) == 2
    assert ("through the proxy http://proxy.example:3128" in capsys.readouterr().err) is named


class Dashboard:
    """In place of Ray's client: a job that has printed a line, and what is said of it each time somebody looks."""

    def __init__(self, *looks, tail=None):
        self._looks, self._tail = list(looks), tail

    async def tail_job_logs(self, name):
        yield "step 1\n"
        if self._tail:
            raise self._tail

    def get_job_info(self, name):
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if isinstance(look, Exception):
            raise look
        status, code = look
        return JobDetails(type=JobType.SUBMISSION, entrypoint="", status=status, driver_exit_code=code)


RUNNING, ENDED, FAILED = (JobStatus.RUNNING, None), (JobStatus.SUCCEEDED, 0), (JobStatus.FAILED, 2)


@pytest.mark.parametrize(
    ("dashboard", "status", "said"),
    [
        (Dashboard(ENDED), 0, ""),
        (Dashboard(RUNNING, ENDED), 0, ""),
        (Dashboard(RUNNING, RUNNING, RUNNING, FAILED), 2, "its log broke off"),
        (Dashboard(RUNNING, FAILED, tail=RuntimeError("closed unexpectedly")), 2, ""),
        (Dashboard(RUNNING, ENDED, tail=ServerDisconnectedError()), 0, ""),
        (
            Dashboard(RuntimeError("Request failed with status code 404: Job raysubmit_x does not exist.")),
            2,
            "duvlm: http://127.0.0.1:9 knows no job raysubmit_x: expected one of its jobs",
        ),
        (Dashboard(RequestException("connection refused")), 2, "failed: connection refused Expected"),
    ],
)
def test_a_job_is_followed_until_it_has_ended_whatever_becomes_of_its_log(monkeypatch, capsys, dashboard, status, said):
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: dashboard)
    monkeypatch.setattr(submission, "LOOK_SECONDS", 0)
    assert duvlm.main(["logs", "raysubmit_x", "-f", "--address", "http://127.0.0.1:9"]) == status
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == bool(said)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """(dashboard, environment of a client) of a `ray start --head` on free ports."""
    folder = tmp_path_factory.mktemp("head")
    (folder / "token").write_text("0123456789abcdef" * 4)
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    port, dashboard, agent = _free_ports(3)
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    ray = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        "--disable-usage-stats",
    ]
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(
            [*ray, "--include-dashboard=true", *ports],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        _wait_for(address, head, folder / "log")
        yield address, environment
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)


@pytest.mark.engine
def test_a_submitted_job_shows_its_log_and_returns_its_exit_status(cluster, tmp_path):
    address, environment = cluster
    good = _duvlm(
        environment, "submit", "corpus", "count=6", "size=32", f"out={tmp_path}/corpus", "--address", address
    )
    assert good.returncode == 0, good.stdout + good.stderr
    assert "corpus: 1 x corpus task" in good.stdout
    assert (tmp_path / "corpus" / "corpus.json").exists()
    settings = [f"corpus={tmp_path}/none", "policy=none.jsonl", f"out={tmp_path}/evaluate"]
    bad = _duvlm(environment, "submit", "evaluate", *settings, "--address", address)
    assert bad.returncode == 2, bad.stdout + bad.stderr
    assert "duvlm: no corpus at" in bad.stdout
    unknown = _duvlm(environment, "logs", "raysubmit_none", "-f", "--address", address)
    assert unknown.returncode == 2
    assert f"{address} knows no job raysubmit_none" in unknown.stderr
    listed = _duvlm(environment, "status", "--address", address).stdout
    assert "SUCCEEDED  run corpus" in listed
    assert "FAILED  run evaluate" in listed


@pytest.mark.engine
@pytest.mark.slow
def test_ray_s_own_submit_works_as_well(cluster):
    address, environment = cluster
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", address, "--working-dir", "."]
    run = [sys.executable, "duvlm.py", "run", "offline", "seed=5", "--dry-run"]
    done = subprocess.run(
        [*command, "--", *run], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed: 5" in done.stdout
    assert "# offline: 1 x rollout engine" in done.stdout


@pytest.mark.engine
def test_without_the_token_one_message_says_what_to_set(cluster):
    address, environment = cluster
    refused = _duvlm(environment | {"RAY_AUTH_MODE": "disabled"}, "status", "--address", address)
    assert refused.returncode == 2
    assert "set RAY_AUTH_MODE=token" in refused.stderr
    assert "Traceback" not in refused.stderr


def _duvlm(environment, *arguments):
    command = [sys.executable, "duvlm.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait_for(address, head, log, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end and head.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2)
            return
        except urllib.error.HTTPError:  # it answers, and asks for the token
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no cluster:\n{log.read_text()[-2000:]}")
