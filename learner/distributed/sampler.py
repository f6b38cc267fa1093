"""Which samples of a corpus make up which SFT step, and a rank's share. Stateless: the step says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.corpus.augment import augmented, refreshed
from envs.taxonomy import Taxonomy
from envs.types import Sample


def step_indices(step: int, batch: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Lists the (epoch, index) of the samples of one global batch.

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


@dataclass(frozen=True)
class Stream:
    """Gives one rank its share of each step's samples, decoded here and nowhere else.

    Args:
        batch: samples of a step, over all `ranks`.
        mirror: half of the pictures are mirrored (see `augmented`).
        refresh: the taxonomy to draw new values from each time (see `refreshed`, for `depth` and `nuisances` too);
            None shows the corpus as it is.
    """

    samples: Sequence[Sample]
    batch: int
    seed: int
    rank: int
    ranks: int
    mirror: bool
    refresh: Taxonomy | None = None
    depth: bool = False
    nuisances: bool = False

    def __call__(self, step: int) -> list[Sample]:
        """Returns this rank's samples of `step`."""
        mine = step_indices(step, self.batch, len(self.samples), self.seed)[self.rank :: self.ranks]
        picked = [(epoch, index, self.samples[index]) for epoch, index in mine]
        if self.refresh:
            extras = (self.depth, self.nuisances)
            return [refreshed(s, self.refresh, self.seed, e, i, *extras) for e, i, s in picked]
        return [augmented(s, self.seed, e, i) if self.mirror else s for e, i, s in picked]
