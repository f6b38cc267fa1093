"""A real job whose processes can be struck while they work, and what its log and its metrics then say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.throughput.soak import titled
from configs.run_folders import read_metrics

ROOT = Path(__file__).parents[2]
SETTINGS = ["grpo.max_staleness=0", "grpo.prompts=2", "rollout.group_size=4", "reward.restorer=fast"]
SETTINGS += ["learner.checkpoint_every=1", "learner.lr=2e-5", "learner.warmup=5"]
EXACT = ("sample_ids", "reward", "spread", "gated", "scored", "failed", "completions", "staleness")
EXACT += ("loss", "grad_norm", "policy_kl")
"""What of a step depends on nothing but the steps before it, on policy."""


CONTINUED = r"continuing from .*step-\d+"


@dataclass(frozen=True)
class Outcome:
    """Of one fault. Seconds from the strike to the line that tells of it, and to the second step finished after it;
    steps lost, steps taken again (the one under way included), steps that differ from the undisturbed run's."""

    fault: str
    noticed: float
    recovered: float
    lost: int
    repeated: int
    changed: int
    told: str


class Job:
    """`duvlm run` in a process group of its own; everything it prints is kept with its time.

    address: of a cluster that this process has started; empty for the job's own.
    """

    def __init__(self, name: str, corpus: Path, out: Path, *settings: str, address: str = ""):
        self.out, self.lines = out, []
        words = ["run", name, f"corpus={corpus}", f"out={out}", *SETTINGS, *settings]
        self.driver = psutil.Popen(
            [sys.executable, "-u", "duvlm.py", *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=os.environ | {"RAY_ADDRESS": address},
        )  # fmt: skip
        self.root = psutil.Process() if address else self.driver
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.driver.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    def rows(self) -> list[dict]:
        return read_metrics(self.out / "metrics.jsonl")

    def step(self) -> int:
        return rows[-1]["step"] if (rows := self.rows()) else 0

    def until(self, happened: Callable[[], object], seconds: float):
        """What `happened` returns once that is true. The job must not end before."""
        ends = time.monotonic() + seconds
        while not (found := happened()):
            assert self.driver.poll() is None, f"the job ended with {self.driver.returncode}: {self.said()}"
            assert time.monotonic() < ends, f"waited {seconds:g} s in vain: {self.said()}"
            time.sleep(0.05)
        return found

    def heard(self, pattern: str, since: float = 0.0) -> tuple[float, str] | None:
        """When a line like that was printed, and the line."""
        return next((entry for entry in list(self.lines) if entry[0] >= since and re.search(pattern, entry[1])), None)

    def processes(self, title: str, under: psutil.Process | None = None) -> list[psutil.Process]:
        """Those of its processes, or of those `under` one, whose title begins like that."""
        return titled(under or self.root, title)

    def at_work(self, title: str, under: psutil.Process | None = None, seconds: float = 120) -> psutil.Process:
        """One of those, in the middle of its work: it used a fifth of the last tenth of a second at least."""

        def busy():
            for process in self.processes(title, under):
                try:
                    before = sum(process.cpu_times()[:2])
                    time.sleep(0.1)
                    if sum(process.cpu_times()[:2]) - before >= 0.02:
                        return process
                except psutil.Error:
                    continue
            return None

        return self.until(busy, seconds)

    def finish(self, seconds: float = 400) -> int:
        """Exit status; kills what is left when it does not come."""
        try:
            return self.driver.wait(seconds)
        finally:
            self.end()

    def end(self) -> None:
        """Kills the job and all it started, if they are still there."""
        if self.driver.is_running() and self.driver.status() != psutil.STATUS_ZOMBIE:
            family = [self.driver, *self.driver.children(recursive=True)]
            for process in family:
                if process.is_running():
                    process.kill()
            psutil.wait_procs(family, timeout=30)
        self.driver.poll()

    def said(self) -> str:
        return "\n".join(line for _, line in self.lines[-40:])


def strike(job: Job, fault: str, how: Callable[[], None], sign: str, whole: list[dict]) -> Outcome:
    """Does it to the job and returns when two more steps are finished, the one under way and one after it.

    how: strikes at once. sign: of the line that tells of it. whole: rows of the undisturbed run.
    """
    before, began = job.step(), time.monotonic()
    how()
    when, line = job.until(lambda: job.heard(sign, began), 240)
    job.until(lambda: job.step() > before + 1, 240)
    recovered, again = time.monotonic() - began, job.heard(CONTINUED, began)
    repeated = before + 1 - int(again[1].rpartition("-")[2]) if again else 0
    return outcome(fault, job.rows(), whole, when - began, recovered, repeated, line)


def outcome(fault, rows, whole, noticed, recovered, repeated, line) -> Outcome:
    """Compares the steps so far with those of the undisturbed run."""
    steps = [row["step"] for row in rows]
    lost = steps[-1] - len(set(steps)) + sum(row["failed"] for row in rows)
    return Outcome(fault, noticed, recovered, lost, repeated, changed(rows, whole), line)


def changed(rows: list[dict], whole: list[dict]) -> int:
    """Steps that are not, to the bit, those of the undisturbed run."""
    theirs = {row["step"]: row for row in whole}
    return sum(any(row[name] != theirs[row["step"]][name] for name in EXACT) for row in rows)
