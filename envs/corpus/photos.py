"""Which photographs there are, whose they are, and which split each belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from configs import UserError
from envs.corpus import near_duplicates
from envs.corpus.datasets import SPLITS, SUFFIXES, Photo, candidates
from envs.pictures import UNREADABLE, open_picture

MAX_ENLARGEMENT = 4
"""A picture that would have to be enlarged by more is of no use."""
_THUMBNAIL = (64, 64)  # a JPEG is decoded at the least size that is no smaller
_SHARES = {"test": 0.12, "val": 0.08}  # of the scenes that bring no split


@dataclass(frozen=True)
class _Seen:
    photo: Photo
    look: near_duplicates.Look


def find_photos(spec: str, seed: int = 0, min_side: int = 64) -> list[Photo]:
    """Finds the readable photographs of a `photos=` setting, each with its split. See `scan_photos`."""
    return scan_photos(spec, seed, min_side)[0]


def scan_photos(
    spec: str, seed: int = 0, min_side: int = 64, enlarge: bool = False
) -> tuple[list[Photo], dict[str, str]]:
    """Looks at every picture once, and decides which are used and in which split.

    Args:
        spec: see `envs.corpus.datasets.candidates`. Photographs that bring no split are split by scene, about
            80 / 8 / 12 %, by a hash of (seed, scene).
        seed: decides those splits.
        min_side: the shortest side that is of use, pixels.
        enlarge: smaller ones are of use too, down to 1 / `MAX_ENLARGEMENT` of it; those of a source that is known to
            be small (CelebA) always are.

    Returns:
        The photos in order of path, and {file: why it was skipped}. Equal files count once; what looks like a
        photograph of another split is left out of train (or else of val).

    Raises:
        UserError: a folder does not exist or lacks a piece of its layout, or there is no readable photo.
    """
    photos, skipped = candidates(spec)
    with ThreadPoolExecutor(4) as threads:
        looks = list(threads.map(lambda photo: _look(photo, min_side, enlarge), photos))
    refused = {str(photo.path): why for photo, why in zip(photos, looks, strict=True) if isinstance(why, str)}
    seen, copies = _without_copies(look for look in looks if not isinstance(look, str))
    if not seen:
        kinds = " ".join(SUFFIXES)
        count = f"{len(photos)} pictures, none usable" if photos else "none"
        first = "".join(f"; {Path(path).name}: {why}" for path, why in list(refused.items())[:1])
        raise UserError(
            f"photos={spec}: expected photographs ({kinds}) of at least {min_side} px a side,"
            f" found {count}{first}. Name a folder of photographs, or photos=bundled."
        )
    unique, near = _without_near_duplicates(_assign_splits(seen, seed))
    return unique, skipped | refused | copies | near


class Interleaving:
    """Decides whose turn it is among the photos of a split, so that every source has its share of the samples.

    As many turns as the sum of the shares make a round: in each, a seeded permutation says which source comes when.
    A source shows its photos in a seeded permutation too, a new one each time it is through them.
    """

    def __init__(self, photos: Sequence[Photo], shares: Mapping[str, int], seed: tuple[int, ...]):
        """
        Args:
            photos: of one split.
            shares: {origin: share}; a source without photos in this split leaves its share to the others.
            seed: decides the permutations.
        """
        self._seed, self._shares = seed, shares
        self._photos = {origin: [photo for photo in photos if photo.origin == origin] for origin in shares}
        self._turns = [
            (number, origin, use)
            for number, origin in enumerate(shares)
            for use in range(shares[origin])
            if self._photos[origin]
        ]

    def photo(self, turn: int, skipped: int = 0) -> Photo:
        """Gives the photo of a turn, or the one of its source that comes so many later."""
        cycle, place = divmod(turn, len(self._turns))
        number, origin, use = self._turns[_permutation(self._seed, 0, cycle, len(self._turns))[place]]
        photos = self._photos[origin]
        epoch, position = divmod(cycle * self._shares[origin] + use, len(photos))
        order = _permutation(self._seed, number + 1, epoch, len(photos))
        return photos[order[(position + skipped) % len(photos)]]


@lru_cache(maxsize=64)
def _permutation(seed: tuple[int, ...], stream: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([*seed, stream, epoch]).permutation(count)


def _look(photo: Photo, min_side: int, enlarge: bool) -> _Seen | str:
    """What is remembered of a picture, or why it cannot be used. Decodes it (a JPEG at a small size)."""
    try:
        content = photo.path.read_bytes()
        with open_picture(content) as image:
            side = min(image.size)
            image.draft("RGB", _THUMBNAIL)
            look = near_duplicates.look(image)
    except UNREADABLE as error:
        return f"unreadable: {str(error)[:80] or type(error).__name__}"
    enlargement = max(1.0, min_side / side)
    if enlargement > (MAX_ENLARGEMENT if enlarge or photo.known_small else 1):
        return f"too small: {side} px, at least {min_side} are needed"
    return _Seen(replace(photo, digest=hashlib.sha256(content).hexdigest(), enlargement=enlargement), look)


def _without_copies(seen: Iterable[_Seen]) -> tuple[list[_Seen], dict[str, str]]:
    """A file that is there twice would be one photo in two splits."""
    first: dict[str, _Seen] = {}
    copies = {}
    for one in seen:
        if (same := first.setdefault(one.photo.digest, one)) is not one:
            copies[str(one.photo.path)] = f"the same picture as {same.photo.path}"
    return list(first.values()), copies


def _without_near_duplicates(seen: list[_Seen]) -> tuple[list[Photo], dict[str, str]]:
    left_out: dict[str, str] = {}
    for held_out in ("test", "val"):
        remaining = [one for one in seen if str(one.photo.path) not in left_out]
        kept = [one for one in remaining if one.photo.split == held_out]
        below = [one for one in remaining if SPLITS.index(one.photo.split) < SPLITS.index(held_out)]
        for k, b in near_duplicates.pairs([one.look for one in kept], [one.look for one in below]):
            mine, like = below[b].photo, kept[k].photo
            left_out[str(mine.path)] = f"left out of {mine.split}: near-identical to {like.photo_id} in {like.split}"
    return [one.photo for one in seen if str(one.photo.path) not in left_out], left_out


def _assign_splits(seen: list[_Seen], seed: int) -> list[_Seen]:
    def scene(one: _Seen) -> str:
        return one.photo.scene or one.photo.photo_id

    def order(scene: str) -> str:
        return hashlib.sha256(f"{seed}/{scene}".encode()).hexdigest()

    free = sorted({scene(one) for one in seen if one.photo.split is None}, key=order)
    test = 0 if len(free) < 2 else max(1, round(_SHARES["test"] * len(free)))
    val = 0 if len(free) < 3 else max(1, round(_SHARES["val"] * len(free)))
    splits = ["test"] * test + ["val"] * val + ["train"] * (len(free) - test - val)
    split = dict(zip(free, splits, strict=True))
    return [
        one if one.photo.split else replace(one, photo=replace(one.photo, split=split[scene(one)])) for one in seen
    ]
