"""Uploads: from bytes that anybody sent to a picture the service takes, or a reason why not."""

from __future__ import annotations

import base64
import hashlib
import io

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from envs.corpus import encode
from envs.photos import UNREADABLE
from envs.samples import Sample

MAX_BYTES = 16 * 2**20
MAX_PIXELS = 40_000_000
MIN_SIDE = 32
MAX_SIDE = 512
"""Larger pictures are reduced to this long side: the prior takes them in one piece."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


class PictureError(ValueError):
    """The bytes are no picture the service takes; the message says why."""


def read(data: bytes) -> np.ndarray:
    """uint8 RGB (H, W, 3), upright, at most `MAX_SIDE` a side.

    Raises:
        PictureError: no picture in one of `FORMATS`, too many pixels, or too small.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(f"at most {MAX_PIXELS // 1_000_000} megapixels, got {image.width} x {image.height}")
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))
            picture = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}), got {len(data)} other bytes") from None
    except UNREADABLE as error:
        raise PictureError(f"expected a picture ({', '.join(FORMATS)}): {str(error)[:120]}") from None
    if min(picture.shape[:2]) < MIN_SIDE:
        raise PictureError(f"at least {MIN_SIDE} px a side, got {picture.shape[1]} x {picture.shape[0]}")
    ratio = MAX_SIDE / max(picture.shape[:2])
    if ratio < 1:
        size = [max(MIN_SIDE, round(n * ratio)) for n in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture)


def as_sample(picture: np.ndarray) -> Sample:
    """A sample named after its pixels, so that the same picture gets the same noise and is remembered."""
    digest = hashlib.sha256(picture.tobytes() + str(picture.shape).encode()).hexdigest()[:24]
    return Sample(f"upload-{digest}", f"upload-{digest}", "test", picture)


def data_url(picture: np.ndarray) -> str:
    """uint8 RGB (H, W, 3) as a PNG that a web page shows."""
    return "data:image/png;base64," + base64.b64encode(encode(picture)).decode()
