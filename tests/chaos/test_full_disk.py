"""No room left while a checkpoint is written, on a small disk of the test's own."""

import json
import shutil
import subprocess
import time

import pytest
from broken_job import Job, Outcome

from learner.distributed.checkpoint import newest, step_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
STEPS = 4
SETTINGS = [f"steps={STEPS}", "learner.batch=4"]


@pytest.fixture
def disk(tmp_path):
    """Room for one checkpoint and a half, which `mount -o remount,size=` changes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=80m", "none", folder]
    if not shutil.which("mount") or subprocess.run(small).returncode:
        pytest.skip("needs the right to mount a disk of its own")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_leaves_the_checkpoint_before_and_is_said(corpus, disk, tmp_path, record):
    undisturbed = Job("sft", corpus, tmp_path / "whole", *SETTINGS)
    assert undisturbed.finish() == 0, undisturbed.said()
    job = Job("sft", corpus, disk / "run", *SETTINGS, "max_failures=3")
    began = job.until(lambda: job.step() == 2 and time.monotonic(), 400)  # whose checkpoint finds no room
    assert job.finish() == 2, job.said()
    when, line = job.heard("No space left on device: the checkpoints written before are whole")
    assert "Traceback" not in job.said()
    assert "starts again" not in job.said()  # no new start would cure it
    newest_whole, damage = newest(disk / "run" / "checkpoints")
    assert step_of(newest_whole) == 1
    assert damage == []
    subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
    again, resumed = Job("sft", corpus, disk / "run", *SETTINGS), time.monotonic()
    again.until(lambda: again.step() > 2, 400)
    recovered = time.monotonic() - resumed
    assert again.finish() == 0, again.said()
    assert not list((disk / "run" / "checkpoints").glob(".draft-*"))
    assert json.loads((disk / "run" / "summary.json").read_text())["steps"] == STEPS
    pairs = list(zip(again.rows(), undisturbed.rows(), strict=True))
    changed = sum(any(here[name] != there[name] for name in ("step", "loss", "sample_ids")) for here, there in pairs)
    lost, repeated = STEPS - len({row["step"] for row in again.rows()}), 2 - step_of(newest_whole)
    record(Outcome("disk full in a checkpoint", when - began, recovered, lost, repeated, changed, line))
    assert (lost, changed) == (0, 0)
