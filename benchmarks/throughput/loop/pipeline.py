"""How near the loop comes to its bottleneck: T*/T, T* the longest of the stages' times of a step, T the step's.

The real loop and pools with stages that sleep (`sleeping_loop`), each stage the longest in turn; staleness 1,
staleness 0 and, beside them, no overlap at all: on policy, and no group comes before all have come.
`overlap` is the share of what could be hidden behind the bottleneck that is: (sum - T) / (sum - T*).
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.throughput.loop.run import Sleeps, run_loop
from benchmarks.throughput.loop.shape import Shape
from benchmarks.throughput.simulation.virtual import simulate
from configs import UserError
from configs.cluster.connect import connect
from configs.schema import Config

BOUND = 0.95
FEWEST_STEPS = 4
SHAPE = Shape(prompts=8, group_size=8, engines=1, in_flight=4, actors=4, rows=4)
SHORT = 0.3  # of the longest stage
STAGES = ("rollout", "reward", "learner")
WAYS = {
    "staleness 1": replace(SHAPE, max_staleness=1),
    "staleness 0": replace(SHAPE, max_staleness=0),
    "no overlap": replace(SHAPE, max_staleness=0, in_flight=SHAPE.prompts),
}


def run(config: Config, steps: int, seconds: float) -> dict:
    """Measures each stage as the longest, `seconds` a step, in `steps` steps; and what a simulation predicts."""
    if steps < FEWEST_STEPS:
        raise UserError(f"--steps={steps}: expected at least {FEWEST_STEPS}; the first two and the last do not count")
    connect()
    rows = [measure(config, stage, way, steps, seconds) for stage in STAGES for way in WAYS]
    table = Table("longest stage", "", "T, s", "T*/T", "overlap", "predicted T, s")
    for row in rows:
        numbers = (row[name] for name in ("seconds", "efficiency", "overlap", "predicted"))
        table.add_row(row["longest"], row["way"], *(f"{number:.3f}" for number in numbers))
    Console(width=120).print(table, f"staleness 1: bar {BOUND:g} of T*/T", sep="\n")
    return {"steps": steps, "seconds": seconds, "rows": rows}


def measure(config: Config, longest: str, way: str, steps: int, seconds: float, dispatch: float = 0.0) -> dict:
    """One row. The process must be connected to a cluster. dispatch: seconds, of what is predicted."""
    sleeps = Sleeps(**{stage: seconds * (1 if stage == longest else SHORT) for stage in STAGES})
    shape = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        found, _ = run_loop(config, shape, sleeps.times(shape), steps, Path(folder, "run"))
    whole = sum(asdict(sleeps).values())
    return {
        "longest": longest,
        "way": way,
        "seconds": found,
        "efficiency": seconds / found,
        "overlap": (whole - found) / (whole - seconds),
        "predicted": simulate(shape, replace(sleeps.times(shape), dispatch=dispatch), steps).step_seconds,
    }
