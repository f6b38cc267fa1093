"""Degraded pictures whose truth nobody knows, or nobody may see: what online RL learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from configs import UserError
from envs.corpus.datasets import SUFFIXES, Photo, candidates, read_photo
from envs.corpus.photos import MAX_ENLARGEMENT
from envs.corpus.reader import CorpusSplit
from envs.pictures import UNREADABLE
from envs.types import Sample


class Photographs(Sequence[Sample]):
    """Gives pictures of folders as they are, each the central square at `size` pixels a side."""

    def __init__(self, spec: str, size: int, enlarge: bool = False):
        """
        Args:
            spec: as `photos=` names folders. All their pictures count, whatever their split, and however like another:
                the same scene under two degradations is two samples. Unreadable ones and those below `size` do not,
                nor those that their dataset does not list: a line says how many of each.
            size: side of the samples, pixels.
            enlarge: smaller pictures count too, as `envs.corpus.photos.scan_photos` says.

        Raises:
            UserError: there is no such folder, or no picture of use in it.
        """
        photos, left_out = candidates(spec)
        with ThreadPoolExecutor(4) as threads:
            faults = list(threads.map(lambda photo: _fault(photo, size, enlarge), photos))
        self._photos = [photo for photo, fault in zip(photos, faults, strict=True) if not fault]
        self._ids = _unique([photo.photo_id for photo in self._photos])
        self._size = size
        if not self._photos:
            raise UserError(
                f"photos={spec}: expected pictures ({' '.join(SUFFIXES)}) of at least {size} px a side, found "
                f"{len(photos)}, none of use"
            )
        skipped = Counter(fault for fault in faults if fault) | Counter({"not listed": len(left_out)})
        if reasons := ", ".join(f"{count} {fault}" for fault, count in skipped.items()):
            print(f"photos={spec}: {len(self._photos)} pictures; skipped: {reasons}", flush=True)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Sample:
        photo = self._photos[index]
        picture = central_square(read_photo(photo.path), self._size)
        return Sample(self._ids[index], photo.photo_id, "train", picture)

    def sample_ids(self) -> list[str]:
        return list(self._ids)


class Blind(Sequence[Sample]):
    """Gives the samples of a corpus without their truth."""

    def __init__(self, samples: CorpusSplit):
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return replace(self._samples[index], clean=None, degradation=None)

    def sample_ids(self) -> list[str]:
        return self._samples.sample_ids()


def central_square(picture: np.ndarray, size: int) -> np.ndarray:
    """Cuts the largest central square and reduces it by area averaging, or enlarges it where it is smaller (bicubic).

    A picture of that size stays as it is to the bit. Else what counts in pixels (the sigma of a blur) counts in the
    pixels of the result.

    Args:
        picture: uint8 (H, W, 3).
        size: side of the result, uint8 (size, size, 3).
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def _unique(names: Sequence[str]) -> list[str]:
    """The second of one name is NAME#2: files of one photo are samples of their own, and a score is kept by sample."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return numbered


def _fault(photo: Photo, size: int, enlarge: bool) -> str:
    """Why a picture is of no use; empty if it is. Decodes it: a broken one shall not be found in the middle of a job.
    """
    smallest = size / MAX_ENLARGEMENT if enlarge or photo.known_small else size
    try:
        return "" if min(read_photo(photo.path).shape[:2]) >= smallest else f"below {smallest:g} px"
    except UNREADABLE:
        return "unreadable"
