"""How much there is of everything in a loop, and how long each piece of work takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.schema import Config

NOTHING = 0.001  # CPUs that a sleeping actor reserves


@dataclass(frozen=True)
class Shape:
    """Counts what a loop has.

    rows: queries that a reward actor restores together. most_actors: the autoscaler's limit, 0 without one.
    """

    prompts: int = 8
    group_size: int = 8
    engines: int = 1
    in_flight: int = 8
    actors: int = 2
    rows: int = 1
    max_staleness: int = 1
    most_actors: int = 0

    def configured(self, config: Config, steps: int, out: Path) -> Config:
        """Returns the settings of a job of this shape that takes `steps` steps and writes into `out`."""
        sizes = {"group_size": self.group_size, "actors": self.engines, "in_flight": self.in_flight}
        pool = {"actors": self.actors, "max_actors": self.most_actors, "batch": self.rows, "scorer": ["mse"]}
        return replace(
            config,
            out=str(out),
            steps=steps,
            probe="",
            resume=False,
            rollout=replace(config.rollout, **sizes, cpus=NOTHING, gpus=0.0),
            reward=replace(config.reward, **pool, cpus=NOTHING, gpus=0.0, strategy="structured"),
            learner=replace(config.learner, ranks=1, cpus=NOTHING, gpus=0.0, checkpoint_every=10**6),
            grpo=replace(config.grpo, prompts=self.prompts, max_staleness=self.max_staleness, refill=0, kl=0.0),
        )


@dataclass(frozen=True)
class Times:
    """Service times in seconds; where there are several, one is drawn for each piece of work.

    group: one prompt in an engine that has `in_flight` of them. restoration: one query in one of an actor's rows.
    learner: one step. sync: one weight update, while nothing is sampled. asked: share of the completions that
    become restorations (not gated, not asked before). dispatch: of the driver, per restoration, one after the other.
    """

    group: Sequence[float]
    restoration: Sequence[float]
    learner: Sequence[float]
    sync: Sequence[float] = (0.0,)
    asked: float = 1.0
    dispatch: float = 0.0


def lap(ends: Sequence[float]) -> float:
    """Returns the mean seconds of a step, from the times at which steps ended.

    The first two, in which the stages fill and are used for the first time, and the last, in which they run empty, do
    not count. Needs four steps.
    """
    return (ends[-2] - ends[1]) / (len(ends) - 3)
