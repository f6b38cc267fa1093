"""What somebody sees of a running job."""

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich import console as rich_console

from learner.logging.console import Console, clock, line, time_left, view

NUMBERS = {
    "reward": -0.0123,
    "gate_rate": 0.25,
    "rewards/queued": 3.0,
    "rewards/queue_age": 1.5,
    "rewards/actors": 2.0,
    "busy_share/rollout": 0.5,
    "busy_share/reward": 0.9,
    "busy_share/learner": 0.1,
}
ROOT = Path(__file__).parents[3]


def drawn(*arguments):
    console = rich_console.Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(view(*arguments))
    return console.file.getvalue()


def test_the_view_shows_progress_metrics_queue_and_how_busy_each_role_is():
    text = drawn("offline", 12, 60, 100.0, 400.0, NUMBERS, ("reward", "gate_rate", "missing"))
    for part in ("offline", "12/60", "1:40", "6:40 left", "reward -0.0123", "gate_rate 0.25", "50%", "90%", "10%"):
        assert part in text
    assert "2 reward actors, 3 queries wait, oldest 1.5 s" in text


def test_a_job_without_rewards_shows_what_it_has():
    text = drawn("sft", 0, 60, 1.0, None, {"loss": 2.0}, ("loss",))
    assert "first step" in text
    assert "loss 2" in text
    assert "queries" not in text


def test_the_time_left_is_that_of_the_steps_of_this_run():
    assert time_left(passed=30.0, done=3, left=5) == pytest.approx(50.0)
    assert time_left(passed=30.0, done=0, left=5) is None
    assert [clock(s) for s in (5, 65, 3661)] == ["0:05", "1:05", "1:01:01"]


def test_where_nothing_redraws_there_is_a_line_now_and_then_and_one_at_the_end(capsys):
    screen = Console("sft", 4, 0, ("loss",))
    screen.start()
    for step in range(1, 5):
        screen.show(step, {"loss": step / 2})
    screen.stop()
    said = capsys.readouterr().err.splitlines()
    assert said == [line("sft", step, 4, {"loss": step / 2}, ("loss",)) for step in (1, 4)]


def test_in_a_terminal_it_is_redrawn():
    """A real pseudo-terminal: cursor movements come out of it, and what is printed meanwhile is not lost."""
    code = (
        "import time; from learner.logging.console import Console; s = Console('sft', 2, 0, ('loss',)); s.start()\n"
        "s.show(1, {'loss': 1.5}); print('said meanwhile'); time.sleep(1.2); s.show(2, {'loss': .5}); s.stop()"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=theirs, env=environment) as job:
        os.close(theirs)
        text, ends = b"", time.monotonic() + 60
        while time.monotonic() < ends:
            try:
                text += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    assert job.returncode == 0, text.decode()
    assert "said meanwhile" in text.decode()
    assert "loss 0.5" in text.decode()
    assert b"\x1b[1A" in text or b"\x1b[2K" in text
