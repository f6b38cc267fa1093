"""Photographs: from what somebody gave to pixels, and back to a file with what was written beside them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from configs import UserError
from envs.degradations import Coding, coding_of
from envs.pictures import UNREADABLE, as_picture, open_picture, tags_of, to_rgb
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
class Photo:
    """Holds a photograph as it was given.

    picture: uint8 RGB (H, W, 3), as `envs.pictures.read_picture` makes it. coding: how its file was written, if as
    JPEG. tags: those of its file that go with a picture made of it (`envs.pictures.tags_of`).
    """

    picture: np.ndarray
    coding: Coding | None = None
    tags: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.picture.shape[1], self.picture.shape[0]

    def png(self, picture: np.ndarray) -> bytes:
        """Writes a picture that was made of this one, uint8 RGB (H, W, 3), as PNG with the tags of this one."""
        kinds, tags = ([cv2.IMAGE_METADATA_EXIF], [np.frombuffer(self.tags, np.uint8)]) if self.tags else ([], [])
        return cv2.imencodeWithMetadata(".png", picture[..., ::-1], kinds, tags)[1].tobytes()


def photo_of(image) -> Photo:
    """Makes a photograph of a path, the bytes of a file, a PIL image, or uint8 RGB (H, W, 3), decoded once.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, Image.Image):
        return Photo(as_picture(image), coding_of(image), tags_of(image))
    if not isinstance(image, (str, Path, bytes)):
        return Photo(as_picture(image))
    try:
        return decoded(image if isinstance(image, bytes) else Path(image).read_bytes())
    except UNREADABLE as error:
        shown = "" if isinstance(image, bytes) else f" at {image}"
        raise UserError(f"expected a picture{shown}: {str(error)[:120]}") from None


def decoded(data: bytes, formats: tuple[str, ...] | None = None) -> Photo:
    """Decodes the bytes of a file in one of Pillow's `formats`, any by default. Raises one of `UNREADABLE`."""
    with open_picture(data, formats) as image:
        return Photo(to_rgb(image), coding_of(image), tags_of(image))


def read(data: bytes) -> Photo:
    """Decodes an upload, whose limits are looked at before its pixels.

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
        return decoded(data, FORMATS)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}), got {len(data)} other bytes") from None
    except UNREADABLE as error:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}): {str(error)[:120]}") from None


def as_sample(picture: np.ndarray) -> Sample:
    """A sample named after its pixels, so that the same picture gets the same noise and is remembered."""
    name = content_name(picture)
    return Sample(name, name, "test", picture)


def content_name(picture: np.ndarray) -> str:
    """A name made of the pixels, uint8 (H, W, 3): the seed of its noise, whatever its file is called."""
    return f"picture-{hashlib.sha256(picture.tobytes() + str(picture.shape).encode()).hexdigest()[:24]}"
