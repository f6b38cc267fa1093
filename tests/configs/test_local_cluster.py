"""A local cluster: who can reach it, who can read its token, and what is said when a process of it dies."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from configs.cluster import local, supervision

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from pathlib import Path
from configs.cluster import connect, supervision
folder = Path(sys.argv[1])
connect.connect()
supervision.end_with_cluster(folder)
if "complete" in sys.argv:
    folder.joinpath("summary.json").write_text("{}")
if "interrupted" in sys.argv:
    supervision.interrupts.append(15)
print("ready", flush=True)
time.sleep(120)
"""


def start(folder, *words):
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", PROGRAM, str(folder), *words]
    return psutil.Popen(command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def listeners(process):
    for one in [process, *process.children(recursive=True)]:
        for connection in one.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield one.name(), connection.laddr


@pytest.mark.engine
def test_a_local_cluster_listens_to_this_machine_alone_and_ends_with_its_raylet(tmp_path):
    with start(tmp_path) as job:
        assert job.stdout.readline() == "ready\n", job.stderr.read()
        time.sleep(2)  # agents come later than the node
        sockets = list(listeners(job))
        assert len(sockets) >= 5
        assert [socket for socket in sockets if socket[1].ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == []
        assert [socket for socket in sockets if socket[1].port == 52365] == []
        family = job.children(recursive=True)
        next(process for process in family if process.name() == "raylet").kill()
        error = job.communicate(timeout=20)[1]
        assert job.returncode == 1
        (line,) = error.strip().splitlines()
        assert line.startswith("duvlm: Ray's process raylet was ended by SIGKILL, and the job with it (memory: ")
        left = psutil.wait_procs(family, timeout=30)[1]
        assert [process for process in left if process.is_running()] == []


@pytest.mark.engine
@pytest.mark.parametrize(("words", "status"), [(["complete"], 0), (["interrupted"], 143)])
def test_a_job_that_is_complete_or_interrupted_keeps_its_status_when_its_cluster_dies(tmp_path, words, status):
    with start(tmp_path, *words) as job:
        assert job.stdout.readline() == "ready\n", job.stderr.read()
        next(process for process in job.children(recursive=True) if process.name() == "gcs_server").kill()
        assert job.wait(timeout=20) == status


def test_the_token_is_made_and_kept_for_its_owner_alone(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"
    local.protect_token()
    assert token.stat().st_mode & 0o777 == 0o600
    first = token.read_text()
    assert len(first) == 64
    token.chmod(0o644)
    local.protect_token()
    assert (token.stat().st_mode & 0o777, token.read_text()) == (0o600, first)
    assert list(token.parent.iterdir()) == [token]


def test_a_home_that_cannot_be_written_to_has_a_token_for_this_job(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    local.protect_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_the_machine_is_described_by_what_can_run_out():
    text = supervision.describe_machine()
    assert text.startswith("memory: ")
    assert "/dev/shm: " in text
