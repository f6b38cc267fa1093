"""Which samples of a corpus make up which SFT step, and a rank's share. Stateless: the step says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.schema import Config
from envs.corpus.augment import augmented, mirrors, refreshed
from envs.corpus.reader import read_card, read_samples
from envs.taxonomy import Taxonomy
from envs.types import Sample
from envs.world import world_taxonomy


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


def open_stream(config: Config, folder: Path, split: str, rank: int) -> Stream:
    """Opens a corpus split as the source of a rank's SFT batches."""
    taxonomy, learner = world_taxonomy(config.world), config.learner
    measured = learner.refresh and read_card(folder)["world"].get("depth") == "file"
    return Stream(
        read_samples(folder, split, taxonomy, clean=learner.refresh, transmission=measured),
        learner.batch,
        config.seed,
        rank,
        learner.ranks,
        mirror=mirrors(taxonomy),
        refresh=taxonomy if learner.refresh else None,
        depth=config.world.depth != "none",
        nuisances=config.world.nuisances,
    )
