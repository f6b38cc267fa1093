"""Which samples of a corpus make up which SFT step, and a rank's share. Stateless: the step says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.samples import Sample
from envs.taxonomy import Taxonomy


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


def augmented(sample: Sample, seed: int, epoch: int, index: int) -> Sample:
    """The sample, mirrored left to right in half of the cases, by (seed, epoch, index).

    Mirroring commutes with every degradation whose values hold for the whole picture: the truth stays true.
    """
    if np.random.default_rng([seed, epoch, index]).random() < 0.5:
        return sample
    clean = None if sample.clean is None else np.ascontiguousarray(sample.clean[:, ::-1])
    return replace(sample, degraded=np.ascontiguousarray(sample.degraded[:, ::-1]), clean=clean)


def mirrors(taxonomy: Taxonomy) -> bool:
    """Whether mirroring keeps every value true: no key is laid out over the picture."""
    return taxonomy.keys["transmission"].shape == ()


class Stream:
    """The share of one rank: `stream(step)` -> its samples of that step, decoded here and nowhere else."""

    def __init__(self, samples: Sequence[Sample], batch: int, seed: int, rank: int, ranks: int, mirror: bool):
        self._samples, self._batch, self._seed = samples, batch, seed
        self._rank, self._ranks, self._mirror = rank, ranks, mirror

    def __call__(self, step: int) -> list[Sample]:
        mine = step_indices(step, self._batch, len(self._samples), self._seed)[self._rank :: self._ranks]
        picked = [(epoch, index, self._samples[index]) for epoch, index in mine]
        return [augmented(s, self._seed, e, i) if self._mirror else s for e, i, s in picked]
