"""What a policy may believe about the numbers of an answer: a spread around the truth, or its own posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from configs.schema import Config
from envs.language.vocabulary import AnswerTokens
from envs.taxonomy import Degradation, Key, Taxonomy
from envs.world import policy_folder
from learner.fitted.curve import log_grid
from learner.policy.collator import Collator, Example
from learner.policy.model import Policy, load_policy
from learner.policy.targets import AnswerLanguage

if TYPE_CHECKING:
    from benchmarks.quality.analysis.gradient import Picture

REACH = 4.0
"""Standard deviations that the grid of a belief spans to either side."""
RAREST = 1e-3
"""Share of the policy's belief about a number that may lie below the grid kept of it, and above."""
ROWS = 64
"""First numbers whose seconds are asked for in one pass."""


@dataclass(frozen=True)
class Belief:
    """Holds a density over the grid points of one number, or of two.

    keys: whose numbers they are.
    inside: the part of each key's grid that is kept.
    first: float64 (n,), of the first number, summing to 1.
    second: float64 (n, m), of the second given each first, rows summing to 1; None where there is one number.
    """

    keys: tuple[Key, ...]
    inside: tuple[slice, ...]
    first: np.ndarray
    second: np.ndarray | None = None

    @cached_property
    def axes(self) -> list[np.ndarray]:
        """The values of the grid points kept of each key."""
        return [np.exp(log_grid(key))[part] for key, part in zip(self.keys, self.inside, strict=True)]

    def draw(self, group: int, rng: np.random.Generator) -> np.ndarray:
        """Draws answers: int (group, numbers), places among the grid points kept."""
        drawn = [rng.choice(len(self.first), group, p=self.first)]
        if self.second is not None:
            drawn.append(np.array([rng.choice(self.second.shape[1], p=self.second[i]) for i in drawn[0]]))
        return np.stack(drawn, axis=1)


def normal(truth: Degradation, width: float, taxonomy: Taxonomy, rng: np.random.Generator) -> Belief:
    """Spreads each number normally in its logarithm, by `width`, around a centre that is off the truth by as much."""
    keys = taxonomy[truth.type].keys
    inside, densities = [], []
    for key in keys:
        away = (log_grid(key) - np.log(truth[key.name])) / width - rng.normal()
        inside.append(_span(np.abs(away) <= REACH))
        density = np.exp(-0.5 * away[inside[-1]] ** 2)
        densities.append(density / density.sum())
    second = np.tile(densities[1], (len(densities[0]), 1)) if len(keys) == 2 else None
    return Belief(keys, tuple(inside), densities[0], second)


@torch.no_grad()
def of_policy(config: Config, pictures: Sequence[Picture], taxonomy: Taxonomy) -> list[Belief]:
    """Reads what `policy` believes of each picture's numbers, the severity in words and the type given."""
    model, processor = load_policy(policy_folder(config.policy, config.world))
    policy, collate = Policy(model, linear_patches=True), Collator(processor, model.model, config.world.views)
    answers = AnswerTokens.of(processor.tokenizer, taxonomy)
    language = AnswerLanguage(processor.tokenizer, taxonomy, config.world.rationale)

    def after(picture: Picture, completions: Sequence[tuple[int, ...]], position: int, key: str) -> np.ndarray:
        """The densities of a key's grid at a position of several completions: float64 (completions, bins)."""
        chances = []
        for start in range(0, len(completions), ROWS):
            batch = collate([Example(picture.degraded, each) for each in completions[start : start + ROWS]])
            logits = policy(batch, lambda rows: (rows[:, list(answers.values[key])],))[0]
            chances.append(logits[:, position].double().softmax(-1).numpy())
        return np.concatenate(chances)

    beliefs = []
    for picture in pictures:
        keys = taxonomy[picture.degradation.type].keys
        written = language.completion(picture.degradation, picture.degraded)
        places = list(answers.places(written))
        first = after(picture, [written], places[0].position, keys[0].name)[0]
        inside = [_kept(first)]
        first = first[inside[0]] / first[inside[0]].sum()
        second = None
        if len(keys) == 2:
            at = places[0].position
            tokens = answers.values[keys[0].name][inside[0]]
            continued = [(*written[:at], token, *written[at + 1 :]) for token in tokens]
            second = after(picture, continued, places[1].position, keys[1].name)
            inside.append(_kept(first @ second))
            second = second[:, inside[1]] / second[:, inside[1]].sum(1, keepdims=True)
        beliefs.append(Belief(keys, tuple(inside), first, second))
    return beliefs


def _kept(density: np.ndarray) -> slice:
    reached = np.cumsum(density)
    return _span((reached > RAREST) & (reached - density < 1 - RAREST))


def _span(chosen: np.ndarray) -> slice:
    places = np.flatnonzero(chosen)
    return slice(int(places[0]), int(places[-1]) + 1)
