"""Which samples of a corpus make up which SFT step, and a rank's share. Stateless: the step says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from envs.corpus import build as corpus
from envs.degradations import depth as relative_depth
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


def augmented(sample: Sample, seed: int, epoch: int, index: int) -> Sample:
    """The sample, mirrored left to right in half of the cases, by (seed, epoch, index).

    Mirroring commutes with every degradation whose values hold for the whole picture: the truth stays true.
    """
    if np.random.default_rng([seed, epoch, index]).random() < 0.5:
        return sample
    clean = None if sample.clean is None else np.ascontiguousarray(sample.clean[:, ::-1])
    return replace(sample, degraded=np.ascontiguousarray(sample.degraded[:, ::-1]), clean=clean)


def refreshed(sample: Sample, taxonomy: Taxonomy, seed: int, epoch: int, index: int, depth: bool = False) -> Sample:
    """A new sample of the same type: the clean image varied and maybe mirrored, degraded with values drawn anew.

    A function of (seed, epoch, index). So no two epochs show the same picture, and the policy cannot learn values by
    heart, nor how bright a given photograph is. depth: haze follows a depth drawn anew.
    """
    rng = np.random.default_rng([seed, epoch, index, 1])
    types = sample.degradation.types
    clean = augmented(sample, seed, epoch, index).clean
    if "low_light" not in types:  # its gamma and gain could not be told from another exposure
        clean = varied(clean, rng)
    far = relative_depth.procedural(rng, *clean.shape[:2]) if depth and "haze" in types else None
    degradation, t = relative_depth.sample(taxonomy, sample.degradation.type, rng, clean.shape[0], far)
    return replace(sample, clean=clean, degraded=corpus.degrade(clean, degradation, t), degradation=degradation)


def varied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure of the same scene, uint8 (H, W, 3): another tone curve, channel gains, saturation."""
    unit = (image.astype(np.float32) / 255) ** rng.uniform(0.75, 1.35)
    unit = unit * (rng.uniform(0.8, 1.1) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    grey = cv2.cvtColor(np.clip(unit, 0, 1), cv2.COLOR_RGB2GRAY)[..., None]
    return (np.clip(grey + rng.uniform(0.7, 1.3) * (unit - grey), 0, 1) * 255).round().astype(np.uint8)


def mirrors(taxonomy: Taxonomy) -> bool:
    """Whether mirroring keeps every value true: no key is laid out over the picture."""
    return taxonomy.keys["transmission"].shape == ()


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
