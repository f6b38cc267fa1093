"""Reads numbers off the density of one over the grid of its key (Proposition 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from envs.taxonomy import Key


@dataclass(frozen=True)
class Posterior:
    """Holds what a policy believed where it wrote one number, given the numbers it had written before; the severity in
    words that an answer begins with is summed over.

    key, index: which number: a key, and the position within it, row by row (0 for a scalar).
    mass: probability that the next token was a value on this key's grid.
    density: float32 (key.bins,), of the grid points by rising value, summing to 1.
    """

    key: str
    index: int
    mass: float
    density: np.ndarray


def argmax(key: Key, density: np.ndarray) -> float:
    """Returns the likeliest grid point."""
    return _grid(key)[int(density.argmax())]


def quantile(key: Key, density: np.ndarray, share: float) -> float:
    """Returns the smallest grid point up to which at least `share` of the density lies; .5 is the median."""
    reached = np.cumsum(density, dtype=np.float64) >= share - 1e-6
    return _grid(key)[int(reached.argmax()) if reached.any() else key.bins - 1]


def mean(key: Key, density: np.ndarray) -> float:
    """Returns the expectation, on the grid. Integers are classes, which have none: their likeliest instead."""
    if key.is_class:
        return argmax(key, density)
    return key.snap(float(np.dot(density.astype(np.float64), _grid(key))))


def tempered(density: np.ndarray, temperature: float) -> np.ndarray:
    """Returns density^(1/temperature), normalised: above 1 wider, below 1 narrower."""
    powered = np.power(density.astype(np.float64), 1 / temperature)
    return powered / powered.sum()


@lru_cache(maxsize=64)
def _grid(key: Key) -> tuple[float, ...]:
    return tuple(key.grid())
