r"""Fits the rewards of a picture's answers by a smooth function of the numbers they give.

A group shares its noise, so the reward of an answer is a deterministic function of one or two numbers, and a smooth
one: a few answers tell about the whole grid. It is taken for a Gaussian process over the logarithms of the numbers,
:math:`x = (\log v - \text{mean}) / \text{scale}`, with the covariance

.. math:: k(x, x') = e^{-|x - x'|^2 / 2 \ell^2} + s (1 + x \cdot x')^2,

whose second part is a quadratic mean with a wide prior on its coefficients (so that three answers are enough, and six
of two numbers fix it). Beyond the answers the curve is constant: coordinates are clipped at `MARGIN` past the
outermost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from envs.taxonomy import Key

FEWEST = 3
"""Distinct answers that a curve needs."""
LENGTH = 1.5
"""l, in standard deviations of the answers."""
QUADRATIC = 100.0
"""s: the prior variance of the quadratic's coefficients over that of the rewards."""
JITTER = 1e-4
"""Variance over that of the rewards by which the curve may miss an answer."""
MARGIN = 0.1
"""How far past the outermost answers the curve is followed, at least, as a difference of logarithms: a tenth. Where
the answers' standard deviation is more, so far."""


@dataclass(frozen=True)
class Curve:
    """Holds the fitted worth of every point of the grid of one key, or of the product of two keys' grids.

    keys: their names, in the order they are answered.
    factors: float32 (bins, rank) for each key. The worth of a point is the sum over the rank of the product of its
        rows: a table of 400 x 1,000 points is never written out.
    """

    keys: tuple[str, ...]
    factors: tuple[np.ndarray, ...]

    def last(self, before: Sequence[int]) -> np.ndarray:
        """Returns the worth of the last number, float32 (bins,), given the grid indices of those before it."""
        weights = np.ones(self.factors[-1].shape[1], np.float32)
        for factor, index in zip(self.factors[:-1], before, strict=True):
            weights = weights * factor[index]
        return self.factors[-1] @ weights

    def first(self, seen: Sequence[int], densities: np.ndarray) -> np.ndarray:
        """Returns the worth of the first of two numbers, float32 (bins,), in expectation over the second.

        What the policy believes of the second is known where an answer gave the first; between two of them it is
        interpolated, and beyond them that of the nearest is taken.

        Args:
            seen: grid indices (n,) of the first number in the answers.
            densities: float (n, bins of the second), what the policy believed of the second after each.
        """
        places, member = np.unique(seen, return_inverse=True)
        shares = np.zeros((len(places), len(seen)))
        shares[member, np.arange(len(seen))] = 1 / np.bincount(member)[member]
        nodes = shares @ (densities @ self.factors[1])
        grid = np.arange(len(self.factors[0]))
        between = np.stack([np.interp(grid, places, column) for column in nodes.T], axis=1)
        return (self.factors[0] * between).sum(1).astype(np.float32)


def is_smooth(key: Key) -> bool:
    """Tells whether a reward may be fitted along a key: one number, above zero, that neither counts nor turns."""
    return not key.shape and key.low > 0 and not key.is_class and not key.period


@lru_cache
def log_grid(key: Key) -> np.ndarray:
    """Returns the logarithms of a key's grid points, float64 (bins,)."""
    return np.log(list(key.grid()))


def fit(keys: Sequence[Key], values: np.ndarray, worth: np.ndarray) -> Curve:
    """Fits a curve through the worth of answers.

    Args:
        keys: one or two, each `is_smooth`.
        values: float (n, keys), one row an answer, none twice; n is at least `FEWEST`.
        worth: float (n,), in any unit.
    """
    logs = np.log(values)
    centre, scale = logs.mean(0), logs.std(0, ddof=1)
    scale = np.where(scale > 0, scale, 1.0)
    points = (logs - centre) / scale
    mean, spread = worth.mean(), worth.std()
    spread = spread if spread > 0 else 1.0
    apart = ((points[:, None] - points) ** 2).sum(-1)
    covariance = np.exp(-apart / (2 * LENGTH**2)) + QUADRATIC * (1 + points @ points.T) ** 2
    weights = np.linalg.solve(covariance + JITTER * np.eye(len(points)), (worth - mean) / spread) * spread
    margin = np.maximum(MARGIN, logs.std(0, ddof=1))
    low, high = logs.min(0) - margin, logs.max(0) + margin
    grids = [log_grid(key).clip(low[i], high[i]) for i, key in enumerate(keys)]
    axes = [(grid - centre[i]) / scale[i] for i, grid in enumerate(grids)]
    bumps = [np.exp(-((axis[:, None] - points[:, i]) ** 2) / (2 * LENGTH**2)) for i, axis in enumerate(axes)]
    if len(keys) == 1:
        quadratic = QUADRATIC * (1 + np.outer(axes[0], points[:, 0])) ** 2
        return Curve((keys[0].name,), (_single((bumps[0] + quadratic) @ weights[:, None] + mean),))
    x, y = axes
    a, b = points.T
    sums = {(i, j): QUADRATIC * np.sum(weights * a**i * b**j) for i in range(3) for j in range(3 - i)}
    constant, slope = (sums[0, 0] + mean + 2 * sums[0, 1] * y + sums[0, 2] * y**2, 2 * (sums[1, 0] + sums[1, 1] * y))
    quadratic = np.stack([constant, slope, np.full(len(y), sums[2, 0])], axis=1)
    left = np.concatenate([bumps[0] * weights, np.stack([np.ones(len(x)), x, x**2], axis=1)], axis=1)
    right = np.concatenate([bumps[1], quadratic], axis=1)
    return Curve(tuple(key.name for key in keys), (_single(left), _single(right)))


def _single(factor: np.ndarray) -> np.ndarray:
    return factor.astype(np.float32)
