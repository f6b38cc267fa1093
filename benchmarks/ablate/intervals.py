"""Measures of a variant and their differences, with 95 % intervals over seeds and samples.

The test samples are the same in every cell, so a draw of the bootstrap takes one set of samples for all cells, and
seeds beside it: what is hard for everyone cancels in a difference. Three seeds say little about seeds: an interval
over three is a narrow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.ablate.terms import Terms

RESAMPLES = 1000
MEANS = ("p_rel", "p_rel_argmax", "p_rel_median", "p_rel_sampled", "p_abs")
"""Measures of each key, whose overall value is the mean over keys."""
Interval = tuple[float, float, float]


class Bootstrap:
    """weights: (1 + RESAMPLES, samples), how often a draw takes a sample; the first takes each once."""

    def __init__(self, samples: int, seed: int = 0, resamples: int = RESAMPLES):
        self._rng = np.random.default_rng(seed)
        draws = self._rng.multinomial(samples, np.full(samples, 1 / samples), size=resamples)
        self.weights = np.vstack([np.ones(samples), draws])
        self._picks: dict[int, np.ndarray] = {}

    def measures(self, terms: Terms) -> dict[str, np.ndarray]:
        """{measure: (1 + RESAMPLES,)} of one cell, `MEANS` over keys included; nan where a draw has no sample."""
        found = {name: self._mean(values) for name, values in terms.items()}
        for mean in MEANS:
            if each := [values for name, values in found.items() if name.endswith(f".{mean}")]:
                found[mean] = np.mean(each, axis=0)
        return found

    def values(self, cells: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Interval]:
        """{measure: (mean over the cells, low, high)}; cells: the `measures` of one variant, a seed each."""
        return {name: _interval(self._over_seeds([cell[name] for cell in cells])) for name in cells[0]}

    def differences(
        self, one: Sequence[Mapping[str, np.ndarray]], other: Sequence[Mapping[str, np.ndarray]]
    ) -> dict[str, Interval]:
        """{measure: (one - other, low, high)}, pair by pair: the same seeds in both, and the same samples."""
        pairs = list(zip(one, other, strict=True))
        shared = [name for name in one[0] if name in other[0]]
        return {name: _interval(self._over_seeds([a[name] - b[name] for a, b in pairs])) for name in shared}

    def _mean(self, values: np.ndarray) -> np.ndarray:
        there = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            return (self.weights @ np.where(there, values, 0.0)) / (self.weights @ there)

    def _over_seeds(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Mean over seeds, which every draw but the first takes anew."""
        count, table = len(columns), np.stack(columns)
        if count not in self._picks:
            drawn = self._rng.integers(count, size=(len(self.weights) - 1, count))
            self._picks[count] = np.vstack([np.arange(count), drawn])
        return np.take_along_axis(table, self._picks[count].T, axis=0).mean(0)


def _interval(draws: np.ndarray) -> Interval:
    low, high = np.nanpercentile(draws[1:], [2.5, 97.5])
    return float(draws[0]), float(low), float(high)
