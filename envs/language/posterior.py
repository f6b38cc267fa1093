"""Reads numbers off the density of one over the grid of its key (Proposition 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from envs.taxonomy import Key

INTERVAL = (0.05, 0.95)
"""Shares of the posterior below the ends of a 90 % interval."""
RAREST = 1e-12
"""Probability below which a view's word is not taken: one that rules a number out altogether would decide alone."""


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


def interval(key: Key, density: np.ndarray) -> tuple[float, float]:
    """Returns the grid points between which 90 % of the density lies.

    Of a direction the interval lies around its mode, and may leave the key's range: 170 .. 190 of 180 degrees.
    """
    turn = key.bins // 2 - int(density.argmax()) if key.period else 0
    turned = np.roll(density, turn)
    low, high = (round(quantile(key, turned, share) - turn * key.step, 6) for share in INTERVAL)
    return low, high


def mean(key: Key, density: np.ndarray) -> float:
    """Returns the expectation, on the grid. Integers are classes, which have none: their likeliest instead."""
    if key.is_class:
        return argmax(key, density)
    return key.snap(float(np.dot(density.astype(np.float64), _grid(key))))


def tempered(density: np.ndarray, temperature: float) -> np.ndarray:
    """Returns density^(1/temperature), normalised: above 1 wider, below 1 narrower."""
    powered = np.power(density.astype(np.float64), 1 / temperature)
    return powered / powered.sum()


def pooled(key: Key, densities: np.ndarray) -> np.ndarray:
    r"""Combines what several views of one photograph say of a number.

    The views are no independent measurements, so their product is tempered to a geometric mean,
    :math:`p \propto \prod_v p_v^{1/V}`: five views that agree know no more than one. Where they disagree by more than
    each of them allows for, p is smoothed by a Gaussian of the variance that is missing, so that its intervals hold
    what the views say.

    Args:
        key: whose grid it is. densities: (V, key.bins), each summing to 1.

    Returns:
        float64 (key.bins,), summing to 1. Of a single view, its density.
    """
    if len(densities) == 1:
        return np.asarray(densities[0], np.float64)
    floored = np.maximum(np.asarray(densities, np.float64), RAREST)
    together = np.exp(np.log(floored).mean(0))
    together /= together.sum()
    excess = _excess_variance(floored / floored.sum(1, keepdims=True), bool(key.period))
    return _smoothed(together, excess, bool(key.period)) if excess > 0 else together


def _excess_variance(densities: np.ndarray, circular: bool) -> float:
    """How much farther the means of the views are apart than their widths let expect, in squared grid points."""
    bins = densities.shape[1]
    where = np.tile(np.arange(bins, dtype=np.float64), (len(densities), 1))
    if circular:  # counted from the mode of the mean, the shorter way round
        where = (where - densities.mean(0).argmax() + bins / 2) % bins
    means = (densities * where).sum(1)
    variances = (densities * (where - means[:, None]) ** 2).sum(1) + 1 / 12
    weights = 1 / variances / (1 / variances).sum()
    spread = (weights * (means - weights @ means) ** 2).sum()
    return float(spread - 1 / (1 / variances).mean())


def _smoothed(density: np.ndarray, variance: float, circular: bool) -> np.ndarray:
    """Convolves with a Gaussian whose variance is in squared grid points; what would leave the grid stays at its ends,
    or comes in again at the other one."""
    bins = len(density)
    distance = np.abs(np.subtract.outer(np.arange(bins), np.arange(bins))).astype(np.float64)
    distance = np.minimum(distance, bins - distance) if circular else distance
    kernel = np.exp(-0.5 * distance**2 / variance)
    return (kernel / kernel.sum(0)) @ density


@lru_cache(maxsize=64)
def _grid(key: Key) -> tuple[float, ...]:
    return tuple(key.grid())
