"""Terms of a reward in different units, brought to one scale by what the stream of an online job has shown of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from envs.types import Scored
from learner.rl.advantages import JudgedGroup
from reward_actors.scoring.scorer import Term

WARM_UP = 1024
"""Values of a term after which its mean and spread are held."""


@dataclass(frozen=True)
class Moments:
    """Follows a stream of numbers (Welford): their count, mean and sum of squared differences from it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def with_value(self, value: float) -> Moments:
        """Returns the moments after one more number."""
        count, away = self.count + 1, value - self.mean
        mean = self.mean + away / count
        return Moments(count, mean, self.squares + away * (value - mean))

    @property
    def spread(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


@dataclass(frozen=True)
class RunningScale:
    """Turns terms in different units into one reward, by mean and spread of each over an online job's restorations.

    reward = sum_k w_k tanh(z_k / 3) / sum_k w_k, with z_k = sign_k (value - mean_k) / spread_k: between -1 and 1, so a
    gated answer (-1) is never worth more than a valid one, and no single outlier rules a group.

    Within a group only differences count. There the means cancel, but for the gate's fixed penalty; what matters is
    the spread: a weight says how much a term counts per standard deviation of the stream, whatever its unit.

    A step's values enter before they are used, so that the first step is on its own scale already. A term that has
    not varied yet adds 0. After `WARM_UP` values mean and spread are held: a scale that went on moving with a policy
    that gets better would hide that it does, and the running average could not show when it saturates.
    """

    terms: tuple[Term, ...]
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def seen(self, parts: Sequence[Mapping[str, float]]) -> RunningScale:
        """Returns the scale after a step's restorations, in order."""
        moments = dict(self.moments)
        for values in parts:
            for term in self.terms:
                now = moments.get(term.name, Moments())
                if now.count < WARM_UP and math.isfinite(values[term.name]):
                    moments[term.name] = now.with_value(values[term.name])
        return replace(self, moments=moments)

    def reward(self, parts: Mapping[str, float]) -> float:
        """Computes the reward of one restoration from the raw values of its terms."""
        total = sum(term.weight for term in self.terms)
        return sum(term.weight * self._squashed(term, parts[term.name]) for term in self.terms) / total

    def _squashed(self, term: Term, value: float) -> float:
        moments = self.moments.get(term.name, Moments())
        if moments.spread <= 1e-9 * abs(moments.mean):  # rounding is no spread
            return 0.0
        return math.tanh(term.sign * (value - moments.mean) / moments.spread / 3)

    def as_dict(self) -> dict:
        """Writes, as JSON, what `restored` reads back exactly."""
        return {name: [m.count, m.mean, m.squares] for name, m in self.moments.items()}

    def restored(self, saved: Mapping[str, Sequence[float]]) -> RunningScale:
        """Returns the scale that `as_dict` wrote."""
        return replace(self, moments={name: Moments(*numbers) for name, numbers in saved.items()})


def rescaled(judged: Sequence[JudgedGroup], scale: RunningScale) -> tuple[list[JudgedGroup], RunningScale]:
    """Brings the rewards of a step's restorations to the running scale; returns the groups and the scale after them."""
    scale = scale.seen([v.parts for item in judged for v in item.verdicts if isinstance(v, Scored)])

    def on_scale(item: JudgedGroup) -> JudgedGroup:
        verdicts = (
            replace(verdict, reward=scale.reward(verdict.parts)) if isinstance(verdict, Scored) else verdict
            for verdict in item.verdicts
        )
        return replace(item, verdicts=tuple(verdicts))

    return [on_scale(item) for item in judged], scale
