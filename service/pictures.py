"""Uploads: from bytes that anybody sent to a picture the service takes, or a reason why not."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from envs.degradations import Coding, coding_of
from envs.pictures import UNREADABLE
from envs.types import Sample

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 16_000_000
MIN_SIDE = 32
LONGEST = 16
"""Times as long as wide, at most."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


class PictureError(ValueError):
    """The bytes are no picture the service takes; the message says why."""


@dataclass(frozen=True)
class Upload:
    """picture: uint8 RGB (H, W, 3), upright, of the size that was sent. coding: how it was written, if as JPEG."""

    picture: np.ndarray
    coding: Coding | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.picture.shape[1], self.picture.shape[0]


def read(data: bytes) -> Upload:
    """The picture in an upload, upright.

    Raises:
        PictureError: no picture in one of `FORMATS`, too many pixels, too small, or too long and narrow.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PictureError(f"at most {MAX_PIXELS // 1_000_000} megapixels, got {width} x {height}")
            if min(width, height) < MIN_SIDE:
                raise PictureError(f"at least {MIN_SIDE} px a side, got {width} x {height}")
            if max(width, height) > LONGEST * min(width, height):
                raise PictureError(f"sides of at most {LONGEST} to 1, got {width} x {height}")
            coding = coding_of(image)
            picture = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}), got {len(data)} other bytes") from None
    except UNREADABLE as error:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}): {str(error)[:120]}") from None
    return Upload(picture, coding)


def coding_in(source) -> Coding | None:
    """Reads how a JPEG file was written: of a path, the bytes of a file, or a PIL image that was opened from one."""
    if isinstance(source, Image.Image):
        return coding_of(source)
    if not isinstance(source, (str, Path, bytes)):
        return None
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return coding_of(image)
    except UNREADABLE:  # by Pillow alone; there are formats it needs help with, none of them JPEG
        return None


def as_sample(picture: np.ndarray) -> Sample:
    """A sample named after its pixels, so that the same picture gets the same noise and is remembered."""
    name = content_name(picture)
    return Sample(name, name, "test", picture)


def content_name(picture: np.ndarray) -> str:
    """A name made of the pixels, uint8 (H, W, 3): the seed of its noise, whatever its file is called."""
    return f"picture-{hashlib.sha256(picture.tobytes() + str(picture.shape).encode()).hexdigest()[:24]}"
