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
    """count, mean and sum of squared differences from the mean of a stream of numbers (Welford)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def with_value(self, value: float) -> Moments:
        count, away = self.count + 1, value - self.mean
        mean = self.mean + away / count
        return Moments(count, mean, self.squares + away * (value - mean))

    @property
    def spread(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


@dataclass(frozen=True)
class RunningScale:
    """Mean and spread of each term over an online job's restorations, and the reward they give.

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
        """The scale after a step's restorations, in order."""
        moments = dict(self.moments)
        for found in parts:
            for term in self.terms:
                now = moments.get(term.name, Moments())
                if now.count < WARM_UP and math.isfinite(found[term.name]):
                    moments[term.name] = now.with_value(found[term.name])
        return replace(self, moments=moments)

    def reward(self, parts: Mapping[str, float]) -> float:
        """The reward of one restoration by the raw values of its terms."""
        total = sum(term.weight for term in self.terms)
        return sum(term.weight * self._squashed(term, parts[term.name]) for term in self.terms) / total

    def _squashed(self, term: Term, value: float) -> float:
        moments = self.moments.get(term.name, Moments())
        if moments.spread <= 1e-9 * abs(moments.mean):  # rounding is no spread
            return 0.0
        return math.tanh(term.sign * (value - moments.mean) / moments.spread / 3)

    def as_dict(self) -> dict:
        """What `restored` reads back exactly, as JSON."""
        return {name: [m.count, m.mean, m.squares] for name, m in self.moments.items()}

    def restored(self, saved: Mapping[str, Sequence[float]]) -> RunningScale:
        return replace(self, moments={name: Moments(*numbers) for name, numbers in saved.items()})


def rescaled(judged: Sequence[JudgedGroup], scale: RunningScale) -> tuple[list[JudgedGroup], RunningScale]:
    """The step's groups with their restorations' rewards on the running scale, and the scale after them."""
    scale = scale.seen([v.parts for item in judged for v in item.verdicts if isinstance(v, Scored)])

    def again(item: JudgedGroup) -> JudgedGroup:
        verdicts = (
            replace(v, reward=scale.reward(v.parts)) if isinstance(v, Scored) else v for v in item.verdicts
        )
        return replace(item, verdicts=tuple(verdicts))

    return [again(item) for item in judged], scale
