"""Which photographs there are, whose they are, and which split each belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs import UserError
from envs.corpus import near_duplicates
from envs.corpus.datasets import BUNDLED, SPLITS, SUFFIXES, Photo, candidates
from envs.pictures import UNREADABLE, open_picture, read_picture

__all__ = ["BUNDLED", "SPLITS", "SUFFIXES", "UNREADABLE", "Photo", "find_photos", "read_photo", "scan_photos"]

_THUMBNAIL = (64, 64)  # a JPEG is decoded at the least size that is no smaller


@dataclass(frozen=True)
class _Seen:
    photo: Photo
    look: near_duplicates.Look


def find_photos(spec: str, seed: int = 0, min_side: int = 64) -> list[Photo]:
    """The readable photographs of `bundled` or of a folder, each with its split. See `scan_photos`."""
    return scan_photos(spec, seed, min_side)[0]


def scan_photos(spec: str, seed: int = 0, min_side: int = 64) -> tuple[list[Photo], dict[str, str]]:
    """Looks at every picture once.

    Args:
        spec: see `envs.corpus.datasets.candidates`. Photographs that bring no split are split by scene, about
            80 / 8 / 12 %, by a hash of (seed, scene).
        min_side: the shortest side that is of use, pixels.

    Returns:
        The photos in order of path, and {file: why it was skipped}. Equal files count once; what looks like a
        photograph of another split is left out of train (or else of val).

    Raises:
        UserError: a folder does not exist or lacks a piece of its layout, or there is no readable photo.
    """
    found, skipped = candidates(spec)
    with ThreadPoolExecutor(4) as threads:
        looks = list(threads.map(lambda photo: _look(photo, min_side), found))
    refused = {str(photo.path): why for photo, why in zip(found, looks, strict=True) if isinstance(why, str)}
    seen, copies = _without_copies(look for look in looks if not isinstance(look, str))
    if not seen:
        kinds = " ".join(SUFFIXES)
        count = f"{len(found)} pictures, none usable" if found else "none"
        first = "".join(f"; {Path(path).name}: {why}" for path, why in list(refused.items())[:1])
        raise UserError(
            f"photos={spec}: expected photographs ({kinds}) of at least {min_side} px a side,"
            f" found {count}{first}. Name a folder of photographs, or photos=bundled."
        )
    photos, near = _without_near_duplicates(_assign_splits(seen, seed))
    return photos, skipped | refused | copies | near


def read_photo(path: Path) -> np.ndarray:
    """The picture upright in sRGB, uint8 (H, W, 3)."""
    return read_picture(path)


def _look(photo: Photo, min_side: int) -> _Seen | str:
    """What is remembered of a picture, or why it cannot be used. Decodes it (a JPEG at a small size)."""
    try:
        content = photo.path.read_bytes()
        with open_picture(content) as image:
            side = min(image.size)
            image.draft("RGB", _THUMBNAIL)
            look = near_duplicates.look(image)
    except UNREADABLE as error:
        return f"unreadable: {str(error)[:80] or type(error).__name__}"
    if side < min_side:
        return f"too small: {side} px, at least {min_side} are needed"
    return _Seen(replace(photo, digest=hashlib.sha256(content).hexdigest()), look)


def _without_copies(seen: Iterable[_Seen]) -> tuple[list[_Seen], dict[str, str]]:
    """A file that is there twice would be one photo in two splits."""
    first: dict[str, _Seen] = {}
    copies = {}
    for one in seen:
        if (same := first.setdefault(one.photo.digest, one)) is not one:
            copies[str(one.photo.path)] = f"the same picture as {same.photo.path}"
    return list(first.values()), copies


def _without_near_duplicates(seen: list[_Seen]) -> tuple[list[Photo], dict[str, str]]:
    left_out: dict[int, str] = {}
    rank = [SPLITS.index(one.photo.split) for one in seen]
    for held_out in (2, 1):
        kept = [i for i in range(len(seen)) if rank[i] == held_out and i not in left_out]
        below = [i for i in range(len(seen)) if rank[i] < held_out]
        for k, b in near_duplicates.pairs([seen[i].look for i in kept], [seen[i].look for i in below]):
            mine, like = seen[below[b]].photo, seen[kept[k]].photo
            left_out[below[b]] = f"left out of {mine.split}: near-identical to {like.photo_id} in {like.split}"
    photos = [one.photo for i, one in enumerate(seen) if i not in left_out]
    return photos, {str(seen[i].photo.path): why for i, why in left_out.items()}


def _assign_splits(seen: list[_Seen], seed: int) -> list[_Seen]:
    def scene(one: _Seen) -> str:
        return one.photo.scene or one.photo.photo_id

    def order(scene: str) -> str:
        return hashlib.sha256(f"{seed}/{scene}".encode()).hexdigest()

    free = sorted({scene(one) for one in seen if one.photo.split is None}, key=order)
    test = 0 if len(free) < 2 else max(1, round(0.12 * len(free)))
    val = 0 if len(free) < 3 else max(1, round(0.08 * len(free)))
    split = dict.fromkeys(free, "train") | dict.fromkeys(free[: test + val], "val")
    split |= dict.fromkeys(free[:test], "test")
    return [
        one if one.photo.split else replace(one, photo=replace(one.photo, split=split[scene(one)])) for one in seen
    ]
