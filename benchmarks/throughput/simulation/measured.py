"""The shape and the service times of an RL run, read from the folder it left: what a simulation needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.throughput.loop.shape import Shape, Times, lap
from configs import Config, UserError
from configs import run_folders as runs
from configs.run_folders import read_metrics
from learner.logging import trace

FEWEST_STEPS = 5
JOBS = ("offline", "online")


@dataclass(frozen=True)
class Measured:
    """step_seconds: of a step in the middle, as `lap` counts it. config: the settings it ran with."""

    config: Config
    shape: Shape
    times: Times
    step_seconds: float
    steps: int


def read_run(folder: Path) -> Measured:
    """Reads config.yaml, metrics.jsonl and trace.json. The first step, in which engines warm up, does not count.

    An actor is taken to restore one query after another, in the seconds of its work that one took on average in each
    step; how many it steps together is in that number. A group's seconds are those under the load of the run.

    Raises:
        UserError: that is no RL run, it has too few steps, or a pool that others share restored for it.
    """
    job, config = runs.reopen(Path(folder))
    steps = read_metrics(Path(folder) / "metrics.jsonl")[1:]
    file = Path(folder) / "trace.json"
    if job not in JOBS or len(steps) < FEWEST_STEPS - 1 or not file.exists():
        raise UserError(f"expected the folder of an RL run, with a trace of {FEWEST_STEPS} steps or more, got {folder}")
    if config.reward.pool:
        raise UserError(
            f"{folder}: its rewards came from the shared pool {config.reward.pool!r}, of whose actors and times it has "
            "no record; expected a run with reward actors of its own (without reward.pool=)"
        )
    spans = _spans(file)
    first = int(steps[0]["step"]) - 1
    engine = [s for number, s in spans["rollout", "engine"] if number >= first]
    learner = [s for number, s in spans["learner", "ranks"] if number >= first]
    syncs = [s for number, s in spans["learner", "sync"] if number > first]
    restored = sum(step["rewards"]["restored"] for step in steps)
    each = [s["busy"]["reward"] / s["rewards"]["restored"] for s in steps if s["rewards"]["restored"]]
    times = Times(
        _seconds(engine),
        each or [0.0],
        _seconds(learner),
        _seconds(syncs),
        min(1.0, restored / sum(step["completions"] for step in steps)),
    )
    ends = [span.end for span in syncs]
    return Measured(config, shape_of(config), times, lap(ends), len(ends))


def shape_of(config: Config) -> Shape:
    rollout, grpo = config.rollout, config.grpo
    return Shape(
        prompts=grpo.prompts,
        group_size=rollout.group_size,
        engines=rollout.actors,
        in_flight=rollout.in_flight,
        actors=config.reward.actors,
        max_staleness=grpo.max_staleness,
        most_actors=config.reward.max_actors,
    )


def newest_run(root: Path = Path("runs")) -> Path:
    """The RL run in ./runs that was written to last. Raises UserError where there is none."""
    found = [file for job in JOBS for file in root.glob(f"*/{job}/metrics.jsonl")]
    if not found:
        raise UserError("expected an RL run in ./runs, or run=FOLDER: times are taken from a run, none is assumed")
    return max(found, key=lambda file: file.stat().st_mtime).parent


def _spans(file: Path) -> dict[tuple[str, str], list[tuple[int, trace.Span]]]:
    """{(process, thread): [(the number in its name, span)]}."""
    found: dict = {("rollout", "engine"): [], ("learner", "ranks"): [], ("learner", "sync"): []}
    for span in trace.read_spans(file):
        if (who := (span.process, span.thread)) in found:
            found[who].append((int(re.search(r"\d+", span.name)[0]), span))
    return found


def _seconds(spans: list[trace.Span]) -> list[float]:
    return np.array([span.seconds for span in spans] or [0.0]).tolist()
