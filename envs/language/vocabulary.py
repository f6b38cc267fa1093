"""Finds the answer tokens of a policy by their numbers: where an answer writes a value, and of which key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.language.answer import SEVERITY_WORDS
from envs.language.posterior import Posterior
from envs.taxonomy import Taxonomy

LIKELIEST = 20
"""Tokens listed where the severity stands, its words among them."""
NEGLIGIBLE = 1e-3


@dataclass(frozen=True)
class Place:
    """Locates a number of an answer: the position of its token, its key, and the number's index within the key."""

    position: int
    key: str
    index: int


@dataclass(frozen=True)
class AnswerTokens:
    """Maps token numbers to what they mean.

    keys: {number of a key's token: key}. values: {key: numbers of its value tokens by rising value}.
    severities: tokens of the words mild, moderate, severe as an answer begins with them; empty where it begins with
    others, and unless the first token tells them apart."""

    keys: Mapping[int, str]
    values: Mapping[str, tuple[int, ...]]
    severities: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokenizer, taxonomy: Taxonomy) -> AnswerTokens:
        """Looks them up in a tokenizer; empty for one that lacks answer tokens."""
        vocabulary = tokenizer.get_vocab()
        names = {name: f"[K-{name}]" for name in taxonomy.keys}
        grids = {name: [key.token_of(number) for number in key.grid()] for name, key in taxonomy.keys.items()}
        if not {*names.values(), *(token for grid in grids.values() for token in grid)} <= set(vocabulary):
            return cls({}, {}, ())
        severity_words = () if taxonomy.evidence else SEVERITY_WORDS
        words = [tuple(tokenizer.encode(word, add_special_tokens=False)) for word in severity_words]
        return cls(
            {vocabulary[token]: name for name, token in names.items()},
            {name: tuple(vocabulary[token] for token in grid) for name, grid in grids.items()},
            tuple(words) if len({word[0] for word in words}) == len(words) else (),
        )

    def places(self, token_ids: Sequence[int]) -> Iterator[Place]:
        """Yields the numbers of an answer, in the order it gives them."""
        key, index = None, 0
        for position, token in enumerate(token_ids):
            if token in self.keys:
                key, index = self.keys[token], 0
            elif key is not None and token in self.values[key]:
                yield Place(position, key, index)
                index += 1

    def opening(self, token_ids: Sequence[int]) -> int:
        """Counts the tokens of the severity in words that an answer begins with; 0 if it begins otherwise."""
        return next((len(word) for word in self.severities if tuple(token_ids[: len(word)]) == word), 0)

    def openings(self, logprobs: Mapping[int, Any]) -> list[tuple[float, tuple[int, ...]]]:
        """Lists (probability, tokens) of every severity in words that has a chance, from vLLM's log-probs of the first;
        all are alike where none is listed, as with a policy that knows nothing."""
        chances = probabilities([word[0] for word in self.severities], logprobs)
        chances[chances < NEGLIGIBLE * chances.max()] = 0
        if not chances.any():
            chances += 1
        chances = chances / chances.sum()
        return [(float(chance), word) for chance, word in zip(chances, self.severities, strict=True) if chance]

    def posterior(self, place: Place, beliefs: Sequence[tuple[float, Mapping[int, Any]]]) -> Posterior:
        """Mixes vLLM's log-probs of the likeliest tokens at a place, by weight, into the posterior of its number."""
        grid = self.values[place.key]
        density = sum(weight * probabilities(grid, logprobs) for weight, logprobs in beliefs)
        mass = float(density.sum())
        if not mass:  # no value of the key is among the likeliest: nothing is known
            density = np.ones(len(grid))
        return Posterior(place.key, place.index, mass, (density / density.sum()).astype(np.float32))


def probabilities(tokens: Sequence[int], logprobs: Mapping[int, Any]) -> np.ndarray:
    """Returns float64 (N,) of N tokens from vLLM's log-probs of the likeliest ones; 0 where one is not listed."""
    return np.array([math.exp(logprobs[token].logprob) if token in logprobs else 0.0 for token in tokens])
