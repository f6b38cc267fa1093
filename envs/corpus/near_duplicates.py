"""Photographs that are in two splits in disguise: resized, recompressed, brightened a little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

MAX_BITS = 12
"""Bits of 64 in which the hashes of two copies differ, at most; different photographs differ in about 32."""
MIN_CORRELATION = 0.97
"""Of the thumbnails of two copies. Hashes alone raise false alarms on pictures with little structure (sky, fog)."""
SIDE = 16
_BLOCK = 1 << 22  # pairs compared at once: 32 MB


@dataclass(frozen=True)
class Look:
    """Holds what is remembered of a picture. bits: its 64-bit difference hash; thumbnail: (16, 16) uint8 luminance."""

    bits: int
    thumbnail: np.ndarray


def look(image: Image.Image) -> Look:
    """Hashes a picture by the signs of horizontal differences on an 8 x 9 reduction, and keeps a thumbnail of it."""
    grey = ImageOps.exif_transpose(image).convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1]).view(">u8")[0]
    return Look(int(bits), np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX)))


def pairs(looks: Sequence[Look], others: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Finds the (i, j) where looks[i] and others[j] are one photograph. Compares every pair, a block at a time."""
    if not looks or not others:
        return
    ours, theirs = (np.array([look.bits for look in some], np.uint64) for some in (looks, others))
    step = max(1, _BLOCK // len(theirs))
    for start in range(0, len(ours), step):
        distance = np.bitwise_count(ours[start : start + step, None] ^ theirs)
        for i, j in np.argwhere(distance <= MAX_BITS):
            if correlation(looks[start + i].thumbnail, others[j].thumbnail) >= MIN_CORRELATION:
                yield start + int(i), int(j)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlates two luminance thumbnails: -1 .. 1, and 0 where one of them is flat."""
    a, b = (x.astype(np.float64) - x.mean() for x in (a, b))
    spread = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / spread) if spread else 0.0
