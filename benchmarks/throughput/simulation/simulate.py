"""The loop in virtual time (`virtual`), with the service times of a real run.

Predicts the run itself first, beside what it measured; then a larger one: `actors` reward actors, engines, prompts and
learner ranks more in the same proportion. `check` compares with real runs whose stages sleep (`pipeline`), and takes
what dispatch costs from one whose stages take no time (`overhead`), of the same minute.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from benchmarks.throughput.simulation.measured import read_run
from benchmarks.throughput.simulation.virtual import Prediction, simulate
from configs import UserError
from configs.schema import Config

BOUND = 0.10
"""A predicted step time may be off by this share of the measured one."""
CHECKED = {"steps": 6, "seconds": 1.5}
"""The real runs: steps, and seconds of the longest stage."""


def run(config: Config, run: Path | None, actors: int, completions: int, check: bool) -> dict:
    """Returns the predictions; `run` is the folder of an RL run."""
    if run is None and not check:
        raise UserError("simulate: expected --run RUN, the folder of an RL run, or --check")
    figures = {}
    if run is not None:
        figures |= _from_run(run, actors, completions)
    if check:
        figures["check"] = compare(config)
    return figures


def _from_run(folder: Path, actors: int, completions: int) -> dict:
    measured = read_run(folder)
    shape, console = measured.shape, Console(width=120)
    own = simulate(shape, measured.times, max(50, measured.steps))
    error = own.step_seconds / measured.step_seconds - 1
    console.print(
        f"{folder}: {measured.step_seconds:.2f} s a step measured, {own.step_seconds:.2f} predicted ({error:+.1%})"
    )
    times = max(1, round(actors / shape.actors))
    prompts, engines = shape.prompts * times, shape.engines * times
    large = replace(shape, actors=actors, prompts=prompts, engines=engines, most_actors=0)
    steps = max(4, round(completions / (large.prompts * large.group_size)))
    began = time.perf_counter()
    found = simulate(large, measured.times, steps)
    took = time.perf_counter() - began
    console.print(
        f"{actors} reward actors, {engines} engines, {found.completions:,} completions: {_told(found)}; "
        f"took {took:.0f} s"
    )
    return {
        "measured": measured.step_seconds,
        "predicted": own.step_seconds,
        "error": error,
        "large": asdict(found) | {"simulation_seconds": took},
    }


def compare(config: Config) -> list[dict]:
    """Runs the loop with stages that sleep, each the longest in turn, and predicts it; `error` is a share."""
    from benchmarks.throughput.loop import overhead, pipeline
    from configs.cluster.connect import connect

    connect()
    dispatch, rows = overhead.measure(config, pipeline.SHAPE.prompts)["ms"] / 1000, []
    Console(width=120).print(f"dispatch: {1000 * dispatch:.2f} ms a completion")
    for stage in pipeline.STAGES:
        row = pipeline.measure(config, stage, "staleness 1", **CHECKED, dispatch=dispatch)
        row["error"] = row["predicted"] / row["seconds"] - 1
        rows.append(row)
        Console(width=120).print(
            f"{stage} longest: {row['seconds']:.3f} s a step measured, {row['predicted']:.3f} predicted "
            f"({row['error']:+.1%}, bar {BOUND:.0%})"
        )
    return rows


def _told(found: Prediction) -> str:
    busy = ", ".join(f"{role} {share:.2f}" for role, share in found.busy.items())
    mean, most = found.queue_age
    return (
        f"{found.step_seconds:.2f} s a step, {found.completions_per_second:.1f} completions/s, "
        f"queue age {mean:.1f} s (at most {most:.1f}), busy: {busy}"
    )
