"""The bootstrap behind every 95 % interval: samples are drawn again and again, with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 1000
Interval = tuple[float, float, float]
"""(value, low, high)."""


def resampled_sums(table: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Sums per-sample terms over all samples, and over each of many draws of as many samples.

    Tables of as many samples are drawn alike under one seed: what is hard for everyone cancels in a difference.

    Args:
        table: float64 (samples, columns).

    Returns:
        float64 (1 + resamples, columns); the first row is the plain sum.
    """
    rng, count = np.random.default_rng(seed), len(table)
    draws = (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(resamples))
    return np.array([table.sum(0), *(weights @ table for weights in draws)])


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Takes the central 95 % of draws; nan draws do not count."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Computes a mean and its 95 % interval."""
    return ratio_interval(values, np.ones(len(values)), resamples, seed)


def ratio_interval(
    shares: Sequence[float], wholes: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Computes sum(shares) / sum(wholes) and its 95 % interval, of samples that bring several numbers each."""
    sums = resampled_sums(np.array([shares, wholes], dtype=float).T, resamples, seed)
    ratios = sums[:, 0] / sums[:, 1]
    return (float(ratios[0]), *interval(ratios[1:]))
