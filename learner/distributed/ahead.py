"""Draws the samples of SFT in a process beside the rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from configs.schema import Config
from envs.observation import views
from envs.types import Sample
from learner.distributed.sampler import open_stream


@dataclass
class Ahead(IterableDataset):
    """Draws the samples of step after step, and makes their views, in a process of its own while the rank computes.

    Yields for each step from `start` on its list of (sample, views).
    """

    config: Config
    folder: Path
    split: str
    rank: int
    start: int

    def __iter__(self) -> Iterator[list[tuple[Sample, list[np.ndarray]]]]:
        import cv2

        cv2.setNumThreads(1)
        stream, names = open_stream(self.config, self.folder, self.split, self.rank), self.config.world.views
        for step in range(self.start, self.config.steps):
            yield [(sample, views(sample.degraded, names)) for sample in stream(step)]

    def loader(self) -> DataLoader:
        """Starts the process; what it yields is the same as here, two steps ahead."""
        return DataLoader(self, batch_size=None, num_workers=1, multiprocessing_context="spawn", collate_fn=_as_it_is)


def _as_it_is(batch):
    return batch
