"""The RL loop in virtual time: a discrete-event simulation, no Ray and no waiting.

What decides is the real code: `learner.rl.staleness` here, the pull queue and the autoscaler in `virtual_pool`.
Modelled is the order of `learner.rl.job.Loop`: sampling and weight updates take turns, judging begins while others are
sampled, the learner waits for its whole batch. Left out: restarts, refilled groups, equal answers (they are taken off
the number of queries beforehand, by `Times.asked`), and every cost of dispatch except `Times.dispatch`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.throughput.simulation.virtual_pool import Clock, VirtualPool
from learner.rl.staleness import may_sample, steps_ahead


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


@dataclass(frozen=True)
class Shape:
    """How much of everything there is. most_actors: the autoscaler's limit, 0 without one."""

    prompts: int = 8
    group_size: int = 8
    engines: int = 1
    in_flight: int = 8
    actors: int = 2
    rows: int = 1
    max_staleness: int = 1
    most_actors: int = 0


@dataclass(frozen=True)
class Prediction:
    """step_seconds: of a step in the middle, see `lap`. queue_age: mean and most over looks a second apart.

    busy: share of the time in which rows of the reward actors, places of the engines and the learner worked.
    """

    step_seconds: float
    seconds: float
    completions: int
    queue_age: tuple[float, float]
    busy: dict[str, float]
    actors: int

    @property
    def completions_per_second(self) -> float:
        return self.completions / self.seconds


def simulate(shape: Shape, times: Times, steps: int, seed: int = 0) -> Prediction:
    """Runs `steps` steps of the loop, four at least."""
    return _Loop(shape, times, steps, seed).run()


def lap(ends: Sequence[float]) -> float:
    """Mean seconds of a step, from the times at which steps ended. The first two, in which the stages fill and are
    used for the first time, and the last, in which they run empty, do not count. Needs four steps."""
    return (ends[-2] - ends[1]) / (len(ends) - 3)


class _Loop:
    """The steps of `learner.rl.job.Loop`, as events."""

    def __init__(self, shape: Shape, times: Times, steps: int, seed: int):
        self._shape, self._times, self._steps = shape, times, steps
        rng = np.random.default_rng(seed)
        self._draws = {name: _drawn(getattr(times, name), rng) for name in ("group", "restoration", "learner", "sync")}
        self._rng, self._clock = rng, Clock()
        self._rewards = VirtualPool(
            self._clock,
            shape.actors,
            shape.most_actors,
            shape.rows,
            lambda: next(self._draws["restoration"]),
            times.dispatch,
        )
        self._asked: set[int] = set()
        self._waiting_for_weights: list[int] = []
        self._left: dict[int, int] = {}  # groups of a step that are not judged yet
        self._step, self._version, self._learning = 0, 0, False
        self._locked, self._turns = False, deque()
        self._busy = {"rollout": 0.0, "learner": 0.0}
        self._ends: list[float] = []

    def run(self) -> Prediction:
        self._begin_step()
        self._clock.run(lambda: self._step == self._steps)
        shape, now, rewards = self._shape, self._clock.now, self._rewards
        places, ages = shape.engines * shape.in_flight, rewards.ages or [0.0]
        rows = max(rewards.row_seconds, now * shape.actors * shape.rows)
        return Prediction(
            lap(self._ends),
            now,
            self._steps * shape.prompts * shape.group_size,
            (float(np.mean(ages)), max(ages)),
            {
                "rollout": self._busy["rollout"] / (now * places),
                "reward": rewards.work / rows,
                "learner": self._busy["learner"] / now,
            },
            rewards.actors,
        )

    def _begin_step(self) -> None:
        for ahead in steps_ahead(self._step, self._shape.max_staleness, self._steps):
            if ahead not in self._asked:
                self._asked.add(ahead)
                self._collect(ahead)
        self._learn_if_judged()

    def _collect(self, step: int) -> None:
        if may_sample(step, self._version, self._shape.max_staleness):
            self._left[step] = self._shape.prompts
            self._take_turn(self._sample, step)
        else:
            self._waiting_for_weights.append(step)

    def _take_turn(self, do: Callable, *arguments) -> None:
        """Sampling and weight updates, first come first served."""
        self._turns.append((do, arguments))
        if not self._locked:
            self._next_turn()

    def _next_turn(self) -> None:
        self._locked = bool(self._turns)
        if self._turns:
            do, arguments = self._turns.popleft()
            do(*arguments)

    def _sample(self, step: int) -> None:
        waiting = [self._shape.prompts]  # prompts not yet in an engine, in a cell that the events share
        sampled = [self._shape.prompts]
        for _ in range(min(self._shape.prompts, self._shape.engines * self._shape.in_flight)):
            self._ask(step, waiting, sampled)

    def _ask(self, step: int, waiting: list[int], sampled: list[int]) -> None:
        waiting[0] -= 1
        seconds = next(self._draws["group"])
        self._busy["rollout"] += seconds
        self._clock.after(seconds, self._sampled, step, waiting, sampled)

    def _sampled(self, step: int, waiting: list[int], sampled: list[int]) -> None:
        if waiting[0]:
            self._ask(step, waiting, sampled)
        group = self._shape.group_size
        queries = group if self._times.asked == 1 else int(self._rng.binomial(group, self._times.asked))
        self._rewards.score(queries, step, lambda: self._judged(step))
        sampled[0] -= 1
        if not sampled[0]:
            self._next_turn()

    def _judged(self, step: int) -> None:
        self._left[step] -= 1
        self._learn_if_judged()

    def _learn_if_judged(self) -> None:
        if not self._learning and self._left.get(self._step) == 0:
            self._learning = True
            seconds = next(self._draws["learner"])
            self._busy["learner"] += seconds
            self._clock.after(seconds, self._take_turn, self._sync)

    def _sync(self) -> None:
        self._clock.after(next(self._draws["sync"]), self._synced)

    def _synced(self) -> None:
        self._step, self._version, self._learning = self._step + 1, self._version + 1, False
        self._ends.append(self._clock.now)
        self._next_turn()
        waiting, self._waiting_for_weights = self._waiting_for_weights, []
        for step in waiting:
            self._collect(step)
        if self._step < self._steps:
            self._begin_step()


def _drawn(values: Sequence[float], rng: np.random.Generator):
    """Endless draws from `values`."""
    while True:
        yield from np.asarray(values, dtype=float)[rng.integers(len(values), size=4096)].tolist()
