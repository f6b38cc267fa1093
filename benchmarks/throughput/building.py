"""How fast a corpus is built, and what it takes: memory of driver, workers, Ray and object store together, at its peak.

The build is `duvlm run corpus` itself, in a process of its own; memory is the proportional set size (PSS) of that
process and all below it, which counts shared memory, the object store among it, once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console

from configs import UserError
from configs.schema import Config

PAPER = 110_000
SMALLER = 5
"""The build is first made with a fifth of the samples: what memory must not depend on."""
FEWEST = 100
BOUND = 0.10
"""Share by which the peaks may differ."""


def run(config: Config) -> dict:
    """Builds count/5 and then count samples of photos= at size= and seed=.

    Returns {samples: {"seconds", "samples_per_second", "peak_bytes"}}, `growth` of the peak and `hours_for_110000`.
    """
    if config.count <= FEWEST:
        raise UserError(f"count={config.count}: expected more than {FEWEST}, the least that memory is measured at")
    figures = {}
    for count in (max(FEWEST, config.count // SMALLER), config.count):
        figures[count] = _build(config, count)
        one = figures[count]
        Console(width=120).print(
            f"{count} samples of {config.size or config.world.size} px: {one['seconds']:.0f} s,"
            f" {one['samples_per_second']:.1f} a second while shards are written,"
            f" peak memory {one['peak_bytes'] / 2**20:.0f} MiB"
        )
    small, large = figures.values()
    growth = large["peak_bytes"] / small["peak_bytes"] - 1
    hours = PAPER / large["samples_per_second"] / 3600
    print(f"peak memory grows by {100 * growth:+.1f} % (bar {100 * BOUND:.0f} %)")
    print(f"{PAPER} samples would take {hours:.1f} h")
    return {"builds": figures, "growth": growth, "flat": growth < BOUND, "hours_for_110000": hours}


def _build(config: Config, count: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "corpus"
        settings = [f"photos={config.photos}", f"seed={config.seed}", f"size={config.size or config.world.size}"]
        command = [sys.executable, "-m", "duvlm", "run", "corpus", *settings, f"count={count}", f"out={out}"]
        began, first, last, peak = time.monotonic(), None, None, 0
        with (Path(folder) / "log").open("w+") as log:
            build = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            while build.poll() is None:
                peak, now = max(peak, _memory(build.pid)), time.monotonic()
                working = any(out.with_name(f".{out.name}.partial").glob("*/records/*"))
                first, last = (first or now, now) if working else (first, last)
                time.sleep(0.3)
            log.seek(0)
            if build.returncode:
                raise RuntimeError(f"the build of {count} samples failed: {log.read()[-2000:]}")
        seconds = time.monotonic() - began
        return {"seconds": seconds, "samples_per_second": count / (last - first), "peak_bytes": peak}


def _memory(pid: int) -> int:
    """Bytes of a process and all below it."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            continue  # it has just ended
    return total
