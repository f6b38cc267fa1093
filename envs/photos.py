"""Which photographs there are, whose they are, and which split each belongs to."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from configs import UserError

SPLITS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
BUNDLED = Path(__file__).parent / "bundled"
_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
_PACKAGED = (  # photo_id, files, split, licence, author; shipped weights never saw the test photos
    ("astronaut", ("skimage/data/astronaut.png",), "train", "public domain", "NASA"),
    ("chelsea", ("skimage/data/chelsea.png",), "val", "CC0-1.0", "Stefan van der Walt"),
    ("coffee", ("skimage/data/coffee.png",), "test", "CC0-1.0", "Rachel Michetti"),
    ("rocket", ("skimage/data/rocket.jpg",), "test", "public domain", "SpaceX"),
    (
        "motorcycle",
        ("skimage/data/motorcycle_left.png", "skimage/data/motorcycle_right.png"),
        "train",
        "Middlebury Stereo 2014, as distributed by scikit-image",
        "D. Scharstein et al.",
    ),
    ("china", ("sklearn/datasets/images/china.jpg",), "test", "CC-BY-2.0", "danielbuechele (Flickr)"),
    ("flower", ("sklearn/datasets/images/flower.jpg",), "train", "CC-BY-2.0", "vultilion (Flickr)"),
)


@dataclass(frozen=True)
class Photo:
    """One picture file. Files of one scene (a stereo pair, two formats) share photo_id and split."""

    photo_id: str
    path: Path
    split: str | None = None
    licence: str = "unknown"
    author: str = "unknown"
    source: str = ""


def find_photos(spec: str, seed: int = 0, min_side: int = 64) -> list[Photo]:
    """The readable photographs of `bundled` or of a folder, each with its split. See `scan_photos`."""
    return scan_photos(spec, seed, min_side)[0]


def scan_photos(spec: str, seed: int = 0, min_side: int = 64) -> tuple[list[Photo], dict[str, str]]:
    """Looks at every picture once.

    Args:
        spec: `bundled`, or a folder searched recursively. Its sub-folders train/, val/ and test/ are splits;
            what lies outside them is split by photo, about 80 / 8 / 12 %, by a hash of (seed, photo_id).
        min_side: the shortest side that is of use, pixels.

    Returns:
        The photos in order of path, and {file: why it was skipped}.

    Raises:
        UserError: the folder does not exist, or holds no readable photo.
    """
    candidates = _bundled() if spec == "bundled" else _folder(Path(spec))
    with ThreadPoolExecutor(4) as threads:
        reasons = list(threads.map(lambda photo: _unusable(photo.path, min_side), candidates))
    skipped = {str(photo.path): reason for photo, reason in zip(candidates, reasons, strict=True) if reason}
    photos = [photo for photo, reason in zip(candidates, reasons, strict=True) if not reason]
    photos, duplicates = _without_duplicates(photos)
    if not photos:
        kinds = " ".join(SUFFIXES)
        found = f"{len(candidates)} pictures, none usable" if candidates else "none"
        first = "".join(f"; {Path(path).name}: {why}" for path, why in list(skipped.items())[:1])
        raise UserError(
            f"photos={spec}: expected photographs ({kinds}) of at least {min_side} px a side,"
            f" found {found}{first}. Name a folder of photographs, or photos=bundled."
        )
    return _assign_splits(photos, seed), skipped | duplicates


def read_photo(path: Path) -> np.ndarray:
    """The picture upright, uint8 RGB (H, W, 3)."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _bundled() -> list[Photo]:
    own = json.loads((BUNDLED / "attribution.json").read_text())
    photos = [
        Photo(Path(e["file"]).stem, BUNDLED / e["file"], e["split"], e["licence"], e["author"], e["source"])
        for e in own
    ]
    for photo_id, files, split, licence, author in _PACKAGED:
        for file in files:
            package, inside = file.split("/", 1)
            path = Path(find_spec(package).origin).parent / inside
            photos.append(Photo(photo_id, path, split, licence, author, f"{package} (Python package)"))
    return photos


def _folder(root: Path) -> list[Photo]:
    if not root.is_dir():
        raise UserError(f"photos={root}: no such folder. Name a folder of photographs, or photos=bundled.")
    photos = []
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            inside = path.relative_to(root)
            split = inside.parts[0] if len(inside.parts) > 1 and inside.parts[0] in SPLITS else None
            photos.append(Photo(inside.with_suffix("").as_posix(), path, split, source=str(root)))
    return photos


def _unusable(path: Path, min_side: int) -> str:
    """Why the file cannot be used; empty if it can. Decodes it (a JPEG at an eighth of its size)."""
    try:
        with Image.open(path) as image:
            side = min(image.size)
            image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
    except _UNREADABLE as error:
        return f"unreadable: {str(error)[:80] or type(error).__name__}"
    return f"too small: {side} px, at least {min_side} are needed" if side < min_side else ""


def _without_duplicates(photos: Iterable[Photo]) -> tuple[list[Photo], dict[str, str]]:
    """A file that is there twice would be one photo in two splits."""
    first: dict[str, Photo] = {}
    duplicates = {}
    for photo in photos:
        digest = hashlib.sha256(photo.path.read_bytes()).hexdigest()
        if digest in first:
            duplicates[str(photo.path)] = f"the same picture as {first[digest].path}"
        else:
            first[digest] = photo
    return list(first.values()), duplicates


def _assign_splits(photos: list[Photo], seed: int) -> list[Photo]:
    def order(photo_id: str) -> str:
        return hashlib.sha256(f"{seed}/{photo_id}".encode()).hexdigest()

    free = sorted({photo.photo_id for photo in photos if photo.split is None}, key=order)
    test = 0 if len(free) < 2 else max(1, round(0.12 * len(free)))
    val = 0 if len(free) < 3 else max(1, round(0.08 * len(free)))
    split = dict.fromkeys(free, "train") | dict.fromkeys(free[: test + val], "val")
    split |= dict.fromkeys(free[:test], "test")
    return [photo if photo.split else replace(photo, split=split[photo.photo_id]) for photo in photos]
