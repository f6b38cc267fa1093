"""A build of a corpus that is killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpora import contents

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def test_a_killed_build_goes_on_and_ends_byte_identical(tmp_path):
    command = [sys.executable, "duvlm.py", "run", "corpus", "count=1200", "size=64"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run([*command, f"out={undisturbed}"], cwd=ROOT, check=True, capture_output=True, timeout=300)
    process = subprocess.Popen([*command, f"out={killed}"], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    records, finished = killed.with_name(".killed.partial"), []
    while len(finished) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        finished = list(records.glob("*/corpus/*.parquet"))
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    again = subprocess.run([*command, f"out={killed}"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "continuing: " in again.stdout, again.stderr
    assert contents(killed) == contents(undisturbed)
    assert not records.exists()
