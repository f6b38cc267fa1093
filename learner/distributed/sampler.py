"""Which samples of a corpus make up which SFT step, and a rank's share. Stateless: the step says it all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.corpus.augment import augmented, refreshed
from envs.taxonomy import Taxonomy
from envs.types import Sample


def step_indices(step: int, batch: int, count: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, index) of the samples of one global batch.

    The data are an endless stream, every epoch a new permutation of the `count` samples by (seed, epoch);
    step s takes the s-th slice of `batch`, across the end of an epoch where it falls so.
    """
    first, last = divmod(step * batch, count)[0], divmod((step + 1) * batch - 1, count)[0]
    stream = [
        (e, int(i))
        for e in range(first, last + 1)
        for i in np.random.default_rng([seed, e]).permutation(count)
    ]
    start = step * batch - first * count
    return stream[start : start + batch]


class Stream:
    """The share of one rank: `stream(step)` -> its samples of that step, decoded here and nowhere else."""

    def __init__(
        self,
        samples: Sequence[Sample],
        batch: int,
        seed: int,
        rank: int,
        ranks: int,
        mirror: bool,
        refresh: Taxonomy | None = None,
        depth: bool = False,
    ):
        """refresh: the taxonomy to draw new values from each time (see `refreshed`, for `depth` too); None shows the
        corpus as it is."""
        self._samples, self._batch, self._seed, self._refresh, self._depth = samples, batch, seed, refresh, depth
        self._rank, self._ranks, self._mirror = rank, ranks, mirror

    def __call__(self, step: int) -> list[Sample]:
        mine = step_indices(step, self._batch, len(self._samples), self._seed)[self._rank :: self._ranks]
        picked = [(epoch, index, self._samples[index]) for epoch, index in mine]
        if self._refresh:
            return [refreshed(s, self._refresh, self._seed, e, i, self._depth) for e, i, s in picked]
        return [augmented(s, self._seed, e, i) if self._mirror else s for e, i, s in picked]
