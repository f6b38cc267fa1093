"""How to split GPUs between the roles of an RL job: `duvlm plan gpus=N [run=FOLDER]`.

Every split is judged by the simulation with the service times of a run. Engines and reward actors are taken to work
at the speed they had there, however many there are; the learner's step to be shared evenly by its ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmarks.throughput.loop.shape import Shape, Times
from benchmarks.throughput.simulation.measured import Measured, newest_run, read_run
from benchmarks.throughput.simulation.virtual import Prediction, simulate
from configs import UserError

SHOWN = 8
HEADER = ("rollout", "reward", "learner", "engines", "actors", "ranks", "s/step", "completions/s", "queue", "busiest")
STEPS = 6


@dataclass(frozen=True)
class Split:
    """GPUs of each role, and how many actors they hold."""

    gpus: tuple[int, int, int]
    engines: int
    actors: int
    ranks: int


@dataclass(frozen=True)
class Plan:
    """One split and what the simulation says of it. bottleneck: the role that is busiest."""

    split: Split
    prediction: Prediction
    bottleneck: str


def splits(gpus: int, engine: float, actor: float, rank: float) -> list[Split]:
    """All ways to give whole GPUs to the three roles, one at least each and none left over.

    Args:
        engine, actor, rank: GPUs that one of each takes; an actor and a rank may take a fraction.
    """
    found = []
    for rollout in range(1, gpus - 1):
        for learner in range(1, gpus - rollout):
            reward = gpus - rollout - learner
            counts = [int(share / each + 1e-9) for share, each in ((rollout, engine), (reward, actor), (learner, rank))]
            if all(counts) and abs(counts[0] * engine - rollout) < 1e-6:
                found.append(Split((rollout, reward, learner), *counts))
    return found


def lower_bound(shape: Shape, times: Times) -> float:
    """Seconds of a step that no order of work can beat: those of its longest stage."""
    places = min(shape.prompts, shape.engines * shape.in_flight)
    rollout = shape.prompts * fmean(times.group) / places
    reward = shape.prompts * shape.group_size * times.asked * fmean(times.restoration) / (shape.actors * shape.rows)
    return max(rollout + fmean(times.sync), reward, fmean(times.learner) + fmean(times.sync))


def plan(measured: Measured, gpus: int) -> list[Plan]:
    """The best splits first; the most promising by `lower_bound` are simulated.

    Raises:
        UserError: three roles do not fit.
    """
    engine, actor, rank = (need or 1.0 for need in _gpus(measured))
    choices = []
    for split in splits(gpus, engine, actor, rank):
        shape = replace(measured.shape, engines=split.engines, actors=split.actors, most_actors=0)
        share = max(1, measured.config.learner.ranks) / split.ranks
        times = replace(measured.times, learner=[share * seconds for seconds in measured.times.learner])
        choices.append((lower_bound(shape, times), split, shape, times))
    if not choices:
        raise UserError(
            f"plan: {gpus} GPUs do not hold the three roles: an engine takes {engine:g}, a reward actor {actor:g}, "
            f"a learner rank {rank:g}"
        )
    plans = []
    for _, split, shape, times in sorted(choices, key=lambda choice: choice[0])[: 2 * SHOWN]:
        found = simulate(shape, times, STEPS)
        plans.append(Plan(split, found, max(found.busy, key=found.busy.get)))
    return sorted(plans, key=lambda made: made.prediction.step_seconds)[:SHOWN]


def table(measured: Measured, plans: Sequence[Plan]) -> str:
    """The plans as text, a line each, and the settings of the best."""
    rows = [HEADER]
    for made in plans:
        found, split = made.prediction, made.split
        rate = measured.shape.prompts * measured.shape.group_size / found.step_seconds
        numbers = (f"{found.step_seconds:.2f}", f"{rate:.2f}", f"{found.queue_age[1]:.1f}", made.bottleneck)
        rows.append((*map(str, (*split.gpus, split.engines, split.actors, split.ranks)), *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    best = plans[0].split
    settings = f"rollout.actors={best.engines} reward.actors={best.actors} learner.ranks={best.ranks}"
    return "\n".join(["GPUs of each role, and what a simulation predicts:", *lines, settings])


def report(words: Sequence[str]) -> str:
    """What `duvlm plan` prints. `words`: gpus=N, and run=FOLDER (the newest RL run in ./runs without it)."""
    settings = dict(word.partition("=")[::2] for word in words)
    gpus, folder = settings.pop("gpus", ""), settings.pop("run", "")
    if settings or not gpus.isascii() or not gpus.isdigit():
        raise UserError(f"plan: expected gpus=N and perhaps run=FOLDER, got {' '.join(words) or 'nothing'}")
    measured = read_run(Path(folder) if folder else newest_run())
    headline = f"service times of {measured.config.out}: {measured.step_seconds:.2f} s a step there"
    if not any(_gpus(measured)):
        headline += "; it ran without GPUs: each engine, reward actor and rank is counted as one"
    return f"{headline}\n{table(measured, plan(measured, int(gpus)))}"


def _gpus(measured: Measured) -> tuple[float, float, float]:
    """GPUs that an engine, a reward actor and a rank take."""
    config = measured.config
    return config.rollout.gpus, config.reward.gpus, config.learner.gpus
