"""How a running job looks in a terminal, and in a log where no terminal redraws it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from rich import console as rich_console
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

QUIET_SECONDS = 10.0  # between lines where no terminal redraws them
ROLES = ("rollout", "reward", "learner")


class Console:
    """Shows a job's steps on standard output: redrawn in a terminal, else a line now and then on standard error.

    Args:
        name: of the job. total: its steps; done: those of an earlier run.
        shown: metrics to show, by their flat name.
    """

    def __init__(self, name: str, total: int, done: int, shown: Sequence[str]):
        self._name, self._total, self._first, self._shown = name, total, done, shown
        self._step = done
        self._numbers: Mapping[str, float] = {}
        self._began, self._last_line = time.monotonic(), -QUIET_SECONDS
        self._live = Live(get_renderable=self._view, console=rich_console.Console(), refresh_per_second=2)

    def start(self) -> None:
        """Begins to redraw, in a terminal."""
        if sys.stdout.isatty():
            self._live.start()

    def stop(self) -> None:
        """Leaves the last view where it is."""
        self._live.stop()

    def show(self, step: int, numbers: Mapping[str, float]) -> None:
        """Shows the numbers of a step, by their flat names."""
        self._step, self._numbers = step, numbers
        now = time.monotonic()
        if not self._live.is_started and (now - self._last_line > QUIET_SECONDS or step == self._total):
            print(line(self._name, step, self._total, numbers, self._shown), file=sys.stderr, flush=True)
            self._last_line = now

    def _view(self) -> RenderableType:
        passed = time.monotonic() - self._began
        left = time_left(passed, self._step - self._first, self._total - self._step)
        return view(self._name, self._step, self._total, passed, left, self._numbers, self._shown)


def line(name: str, step: int, total: int, numbers: Mapping[str, float], shown: Sequence[str]) -> str:
    """Writes one step in one line."""
    values = "  ".join(f"{key} {numbers[key]:.4g}" for key in shown if key in numbers)
    return f"{name} {step}/{total}  {values}"


def time_left(passed: float, done: int, left: int) -> float | None:
    """Estimates the seconds that `left` steps take at the pace of the `done` ones, which took `passed` seconds."""
    return passed / done * left if done else None


def view(
    name: str,
    step: int,
    total: int,
    passed: float,
    left: float | None,
    numbers: Mapping[str, float],
    shown: Sequence[str],
) -> RenderableType:
    """Draws progress and time; the shown metrics; the queue before the reward actors; how busy each role is."""
    head, rows = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 3))
    to_go = f"{clock(left)} left" if left is not None else "first step"
    head.add_row(Text(name, "bold"), ProgressBar(total, step, width=30), f"{step}/{total}", f"{clock(passed)}, {to_go}")
    rows.add_row(*(f"{key} {numbers[key]:.4g}" for key in shown if key in numbers))
    parts: list[RenderableType] = [head, rows]
    if "rewards/queued" in numbers:
        actors, waiting, age = (numbers[f"rewards/{key}"] for key in ("actors", "queued", "queue_age"))
        parts.append(Text(f"{actors:.0f} reward actors, {waiting:.0f} queries wait, oldest {age:.1f} s"))
    shares = {role: numbers[f"busy_share/{role}"] for role in ROLES if f"busy_share/{role}" in numbers}
    if shares:
        busy = Table.grid(padding=(0, 2))
        cells = [(role, ProgressBar(1.0, min(1.0, share), width=12), f"{share:.0%}") for role, share in shares.items()]
        busy.add_row("busy:", *(part for cell in cells for part in cell))
        parts.append(busy)
    return Group(*parts)


def clock(seconds: float) -> str:
    """Writes seconds as h:mm:ss, without leading zeros."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
