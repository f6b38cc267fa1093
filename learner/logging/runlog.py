"""What a run leaves: config.yaml, metrics.jsonl, TensorBoard events, trace.json, summary.json; and who shows it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs import Config, UserError, config_to_yaml
from configs.files import read_json, write_atomically
from configs.run_folders import lines_until, read_metrics
from learner.logging.console import Console
from learner.logging.prometheus import PrometheusSink
from learner.logging.trace import Trace
from learner.logging.trackers import open_trackers


class RunLog:
    """Keeps the log of one job, a context manager.

    Args:
        folder: created if missing.
        job, config: written to config.yaml.
        total: steps the job will take, for the progress line.
        resumed: the last step done before; what was logged after it is dropped. 0 starts a new log.
        show: metrics that a glance at the running job shows.
    """

    def __init__(
        self, folder: Path, job: str, config: Config, total: int, resumed: int = 0, show: Sequence[str] = ("loss",)
    ):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "config.yaml", config_to_yaml(config, job))
        (self.folder / "summary.json").unlink(missing_ok=True)  # a summary says that the run has finished
        trace = self.folder / "trace.json"
        if not resumed:
            trace.unlink(missing_ok=True)
            for events in (self.folder / "tensorboard").glob("events.*"):
                events.unlink()
        write_atomically(self.folder / "metrics.jsonl", lines_until(self.folder / "metrics.jsonl", resumed))
        self._metrics = (self.folder / "metrics.jsonl").open("a")
        self._trace = Trace(trace)
        from torch.utils.tensorboard import SummaryWriter  # here: readers of a log need no torch

        self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=resumed + 1)
        history = [(line.pop("step"), dict(_flat(line))) for line in read_metrics(self.folder / "metrics.jsonl")]
        self._trackers = open_trackers(self.folder, job, config, history)
        name = "/".join(self.folder.resolve().parts[-2:])
        self._prometheus = PrometheusSink(name) if _on_ray() else None
        self._console = Console(name, total, resumed, show)

    def __enter__(self) -> RunLog:
        self._console.start()
        return self

    def __exit__(self, error: type | None, *_) -> None:
        self._console.stop()
        self._metrics.close()
        self._trace.close()
        self._events.close()
        for tracker in self._trackers:
            tracker.close(failed=error is not None)

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl (numbers, or mappings of them), and shows the same wherever else it is kept."""
        self._metrics.write(json.dumps({"step": step, **_plain(metrics)}) + "\n")
        self._metrics.flush()
        numbers = dict(_flat(metrics))
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.step(step, numbers)
        if self._prometheus:
            self._prometheus.set({**numbers, "step": step})
        self._console.show(step, numbers)

    def span(self, process: str, thread: str, name: str, start: float, seconds: float) -> None:
        """Adds a stretch of work to trace.json; see `learner.logging.trace.Span`."""
        self._trace.span(process, thread, name, start, seconds)

    @contextmanager
    def timed(self, process: str, thread: str, name: str) -> Iterator[None]:
        """Makes a span of a block of this process."""
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
    done = config.resume and summary.exists() and _steps_in(summary) >= config.steps
    if done:
        print(f"{folder} has finished its {config.steps} steps: nothing to do (resume=false trains anew)", flush=True)
    return done


def _steps_in(summary: Path) -> int:
    """Reads the steps of a finished run; 0 where its summary is damaged, so that it goes on from its checkpoint."""
    try:
        return int(read_json(summary).get("steps", 0))
    except (UserError, TypeError, ValueError) as error:
        print(f"{error}; the run goes on from its newest checkpoint", flush=True)
        return 0


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


def _on_ray() -> bool:
    """Whether this process is connected to a cluster; a job without one imports no Ray."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()
