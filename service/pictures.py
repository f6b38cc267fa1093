"""Uploads: from bytes that anybody sent to a picture the service takes, or a reason why not."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from envs.pictures import UNREADABLE
from envs.types import Sample

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 40_000_000
MIN_SIDE = 32
MAX_SIDE = 512
"""Larger pictures are reduced to this long side: the prior takes them in one piece."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)
"""The Exif tag of how a camera was held, and its values for pictures that lie on their side."""


class PictureError(ValueError):
    """The bytes are no picture the service takes; the message says why."""


@dataclass(frozen=True)
class Upload:
    """picture: uint8 RGB (H, W, 3), upright, at most `MAX_SIDE` a side. size: width and height of what was sent."""

    picture: np.ndarray
    size: tuple[int, int]

    @property
    def ratio(self) -> float:
        """How many pixels of what was sent one of `picture` spans; at least 1."""
        return max(self.size) / max(self.picture.shape[:2])


def read(data: bytes) -> Upload:
    """The picture in an upload, upright and reduced.

    Raises:
        PictureError: no picture in one of `FORMATS`, too many pixels, too small, or too long and narrow.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size = image.size
            if size[0] * size[1] > MAX_PIXELS:
                raise PictureError(f"at most {MAX_PIXELS // 1_000_000} megapixels, got {size[0]} x {size[1]}")
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))
            if image.getexif().get(ORIENTATION, 1) in LYING:
                size = size[::-1]
            picture = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}), got {len(data)} other bytes") from None
    except UNREADABLE as error:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}): {str(error)[:120]}") from None
    return Upload(_reduced(picture, size), size)


def _reduced(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """At most `MAX_SIDE` a side, in the same proportions. size: what was sent, for the message."""
    if min(size) < MIN_SIDE:
        raise PictureError(f"at least {MIN_SIDE} px a side, got {size[0]} x {size[1]}")
    ratio = min(1.0, MAX_SIDE / max(picture.shape[:2]))
    width, height = (round(n * ratio) for n in picture.shape[1::-1])
    if min(width, height) < MIN_SIDE:
        most = MAX_SIDE // MIN_SIDE
        raise PictureError(f"sides of at most {most} to 1, got {size[0]} x {size[1]}")
    if ratio < 1:
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture)


def as_sample(picture: np.ndarray) -> Sample:
    """A sample named after its pixels, so that the same picture gets the same noise and is remembered."""
    name = content_name(picture)
    return Sample(name, name, "test", picture)


def content_name(picture: np.ndarray) -> str:
    """A name made of the pixels, uint8 (H, W, 3): the seed of its noise, whatever its file is called."""
    return f"picture-{hashlib.sha256(picture.tobytes() + str(picture.shape).encode()).hexdigest()[:24]}"
