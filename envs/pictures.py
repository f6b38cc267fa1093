"""Reads picture files as a person sees them: upright, in sRGB, opaque, 8 bits a channel."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from configs import UserError

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif",
)  # fmt: skip
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, cv2.error)
"""What reading raises on a file that is damaged, or no picture."""
_SRGB = ImageCms.createProfile("sRGB")
_LAYOUT = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 301, 317, 318, 319, 320, 322, 323, 324, 325, 330}
    | {338, 339, 340, 341, 347, 513, 514, 529, 530, 531, 532, 700, 33723, 34377, 34675}
)
"""Tags of how the pixels of one file lie, and of what else is packed into it (XMP, IPTC, an ICC profile)."""


def read_picture(
    source: Path | bytes, formats: tuple[str, ...] | None = None, profile: bool = True
) -> np.ndarray:
    """Reads a picture file, or the bytes of one.

    Exif orientation is applied, an ICC profile is converted to sRGB, transparency is laid over white. Gray of 16 bits
    is divided by 257; floats are intensities of 0 to 1, or of 0 to 255 (65,535) where one of them exceeds 1 (255). Of
    an animation the first frame is read.

    Args:
        formats: Pillow's names of the formats to accept; None accepts all.
        profile: convert from an ICC profile; otherwise the numbers are taken as they are stored.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        One of `UNREADABLE`: it is damaged, no picture, or of another format.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with open_picture(data, formats) as image:
        return to_rgb(image, profile)


def to_rgb(image: Image.Image, profile: bool = True) -> np.ndarray:
    """The pixels of an opened picture, uint8 RGB (H, W, 3), as `read_picture` describes."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    image = _to_srgb(image) if profile else image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def open_picture(data: bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Opens the bytes of a picture without decoding more than must be: what has 8 bits a channel is left to Pillow.

    Raises:
        One of `UNREADABLE`, here or when the pixels are asked for.
    """
    if "HEIF" not in Image.OPEN:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.UnidentifiedImageError:
        if formats is None and data[:2] in (b"II", b"MM"):  # TIFF of three channels of 16 bits or floats
            return Image.fromarray(_with_opencv(data))
        raise
    if image.mode.startswith(("I", "F")):
        upright = Image.fromarray(_eight_bits(np.asarray(ImageOps.exif_transpose(image))))
        upright.info["exif"] = tags_of(image)
        return upright
    return image


def tags_of(image: Image.Image) -> bytes:
    """Copies the Exif tags of an opened picture for another file of it, upright and in sRGB.

    All are kept, where it was taken (GPS) and the camera's own notes too, but for what is true of this file alone:
    orientation becomes 1, width and height those of the upright picture, the colour space sRGB where there was a
    profile; the thumbnail and the layout of the pixels are left out.

    Returns:
        The tags without the leading "Exif"; empty where there are none, or where they are damaged.
    """
    try:
        tags = Image.Exif()
        tags.load(image.getexif().tobytes())
        turned = tags.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        width, height = image.size[::-1] if turned else image.size
        detail = tags.get_ifd(ExifTags.IFD.Exif)
        now = {ExifTags.Base.ExifImageWidth: width, ExifTags.Base.ExifImageHeight: height}
        if image.info.get("icc_profile"):
            now[ExifTags.Base.ColorSpace] = 1
        detail.update({tag: value for tag, value in now.items() if tag in detail})
        for tag in _LAYOUT & set(tags):
            del tags[tag]
        if not len(tags):
            return b""
        tags[ExifTags.Base.Orientation] = 1
        return tags.tobytes().removeprefix(b"Exif\0\0")
    except UNREADABLE:
        return b""


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, opened, _SRGB, outputMode=mode)
    except ImageCms.PyCMSError:  # a damaged profile says nothing: the numbers are taken as sRGB
        return image


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Intensities of 16 bits or floats -> uint8. Raises ValueError for floats that are not finite."""
    if np.issubdtype(values.dtype, np.integer):
        scale = 255 / 65535 if values.dtype.itemsize == 2 or values.max(initial=0) > 255 else 1
    else:
        if not np.isfinite(values).all():
            raise ValueError("expected finite intensities, got NaN or infinity")
        most = values.max(initial=0)
        scale = 255 if most <= 1 else 1 if most <= 255 else 255 / 65535
    return np.clip(np.rint(values.astype(np.float64) * scale), 0, 255).astype(np.uint8)


def _with_opencv(data: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise Image.UnidentifiedImageError("cannot identify image file")
    if values.dtype != np.uint8:
        values = _eight_bits(values)
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    if values.shape[2] == 4:
        alpha = values[..., 3:] / 255.0
        values = np.rint(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(values[..., ::-1])


def as_picture(image) -> np.ndarray:
    """Makes uint8 RGB (H, W, 3) of a path, the bytes of a file, a PIL image or an array.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, (str, Path, bytes)):
        try:
            return read_picture(image if isinstance(image, bytes) else Path(image))
        except UNREADABLE as error:
            shown = "" if isinstance(image, bytes) else f" at {image}"
            raise UserError(f"expected a picture{shown}: {str(error)[:120]}") from None
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"expected a picture as uint8 (H, W, 3), got {array.dtype} {array.shape}")
    return array
