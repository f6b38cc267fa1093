"""One job in a run folder at a time."""

import os
import subprocess
import sys

import pytest

from configs import UserError
from configs.run_folders import LOCK as FILE
from configs.run_folders import locked

HOLD = """
import sys, time
from configs.run_folders import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_job(tmp_path):
    """Another process that works in the folder."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    yield holder
    holder.kill()
    holder.wait()


def test_a_second_job_is_told_who_works_in_the_folder(tmp_path, other_job):
    with pytest.raises(UserError, match=rf"in use by another job \(process {other_job.pid} on "), locked(tmp_path):
        pass


def test_what_a_killed_job_left_locks_nothing(tmp_path, other_job):
    other_job.kill()
    other_job.wait()
    assert str(other_job.pid) in (tmp_path / FILE).read_text()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / FILE).read_text()


def test_a_folder_is_free_again_after_a_job(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            pass
