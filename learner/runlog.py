"""What a run leaves: config.yaml, metrics.jsonl, TensorBoard events, trace.json, summary.json, progress."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import Config, config_to_yaml
from learner.trace import Trace

QUIET_SECONDS = 10.0  # between progress lines where no terminal redraws them


class RunLog:
    """The log of one job, a context manager.

    Args:
        folder: created if missing.
        config: written to config.yaml.
        total: steps the job will take, for the progress line.
        resumed: the last step done before; what was logged after it is dropped. 0 starts a new log.
        show: metrics named in the progress line.
    """

    def __init__(
        self, folder: Path, config: Config, total: int, resumed: int = 0, show: Sequence[str] = ("loss",)
    ):
        self.folder, self._total, self._show = Path(folder), total, show
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "config.yaml", config_to_yaml(config))
        (self.folder / "summary.json").unlink(missing_ok=True)  # a summary says that the run has finished
        trace = self.folder / "trace.json"
        if not resumed:
            trace.unlink(missing_ok=True)
            for events in (self.folder / "tensorboard").glob("events.*"):
                events.unlink()
        write_atomically(self.folder / "metrics.jsonl", _lines_until(self.folder / "metrics.jsonl", resumed))
        self._metrics = (self.folder / "metrics.jsonl").open("a")
        self._trace = Trace(trace)
        from torch.utils.tensorboard import SummaryWriter  # here: readers of a log need no torch

        self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=resumed + 1)
        self._bar = _progress(self.folder.name) if sys.stderr.isatty() else None
        self._task = self._bar.add_task("", total=total, completed=resumed, shown="") if self._bar else None
        self._said = 0.0

    def __enter__(self) -> RunLog:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()
        self._metrics.close()
        self._trace.close()
        self._events.close()

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl (numbers, or mappings of them), the same in TensorBoard, and progress."""
        self._metrics.write(json.dumps({"step": step, **_plain(metrics)}) + "\n")
        self._metrics.flush()
        numbers = dict(_flat(metrics))
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        shown = "  ".join(f"{name} {numbers[name]:.4g}" for name in self._show if name in numbers)
        if self._bar:
            self._bar.update(self._task, completed=step, shown=shown)
        elif time.monotonic() - self._said > QUIET_SECONDS or step == self._total:
            print(f"{self.folder.name} {step}/{self._total}  {shown}", file=sys.stderr, flush=True)
            self._said = time.monotonic()

    def span(self, process: str, thread: str, name: str, start: float, seconds: float) -> None:
        """A stretch of work in trace.json; see `Trace.span`."""
        self._trace.span(process, thread, name, start, seconds)

    @contextmanager
    def timed(self, process: str, thread: str, name: str) -> Iterator[None]:
        """A span around a block of this process."""
        start = time.time()
        try:
            yield
        finally:
            self.span(process, thread, name, start, time.time() - start)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Writes summary.json, whole or not at all; by it others see that the run has finished."""
        write_atomically(self.folder / "summary.json", json.dumps(_plain(values), indent=1) + "\n")


def finished(folder: Path, config: Config) -> bool:
    """Whether the run in `folder` has finished at least the steps asked for; says so."""
    summary = Path(folder) / "summary.json"
    done = config.resume and summary.exists() and json.loads(summary.read_text()).get("steps", 0) >= config.steps
    if done:
        print(f"{folder} has finished its {config.steps} steps: nothing to do (resume=false trains anew)", flush=True)
    return done


def write_atomically(file: Path, text: str) -> None:
    """Replaces `file` in one step: a reader sees the old text or the new, never half."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(text)
    os.replace(aside, file)


def read_metrics(file: Path) -> list[dict]:
    """The lines of metrics.jsonl; a last line cut short by a kill is left out."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def _lines_until(file: Path, step: int) -> str:
    return "".join(json.dumps(line) + "\n" for line in read_metrics(file) if line["step"] <= step)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no NumPy: such numbers become null and float."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in _plain(metrics).items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, float(value)


def _progress(name: str) -> Progress:
    shown = TextColumn("{task.fields[shown]}")
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), shown)
    return Progress(*columns, console=Console(stderr=True))
