"""What the loop itself costs: milliseconds a completion when no stage takes any time.

The real loop, pools, gate and log over Ray actors that answer at once. Beside the wall clock, which other work on the
machine lengthens, the CPU time of the driver, which it does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.throughput.loop.run import run_loop
from benchmarks.throughput.loop.shape import Shape, Times
from configs.cluster.connect import connect
from configs.schema import Config

BOUND = 1.0
"""Milliseconds a completion."""
SHAPE = Shape(group_size=8, in_flight=8, actors=2, rows=16)
COMPLETIONS = 4000
"""In all, in the steps that count; so many that a step of ten groups is measured often enough."""


def run(config: Config, groups: Sequence[int]) -> dict:
    """Measures steps of so many `groups`."""
    connect()
    rows = [measure(config, count) for count in groups]
    table = Table("groups a step", "completions a step", "ms a completion", "CPU ms of the driver")
    for row in rows:
        table.add_row(str(row["groups"]), str(row["completions"]), *(f"{row[n]:.2f}" for n in ("ms", "cpu_ms")))
    growth = rows[-1]["ms"] / rows[0]["ms"]
    Console(width=120).print(table, f"bar {BOUND:g} ms, flat; growth {growth:.2f}", sep="\n")
    return {"rows": rows, "growth": growth}


def measure(config: Config, groups: int) -> dict:
    """One row. The process must be connected to a cluster."""
    shape = replace(SHAPE, prompts=groups)
    completions = groups * shape.group_size
    steps = max(4, 3 + COMPLETIONS // completions)
    with tempfile.TemporaryDirectory() as folder:
        seconds, cpu = run_loop(config, shape, Times([0.0], [0.0], [0.0]), steps, Path(folder, "run"))
    return {
        "groups": groups,
        "completions": completions,
        "ms": 1000 * seconds / completions,
        "cpu_ms": 1000 * cpu / completions,
    }
