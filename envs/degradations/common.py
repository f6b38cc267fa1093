"""What the degradations share: 8-bit rounding, truncated normal draws, the cosine transform, conversions."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from envs.taxonomy import Degradation
else:
    Tensor = "torch.Tensor"  # in annotations, which nobody evaluates: torch itself is imported when it is needed

QUANTISATION = 1 / (255 * math.sqrt(12))
"""Standard deviation of 8-bit rounding on [0, 1]."""


MEDIAN_OF_NORMAL = 0.6745
"""The median of |z|, z standard normal."""
BLOCK, FLAT_SHARE, FLAT_BIAS = 4, 0.05, 0.725
"""The side of blocks of details, the share of them taken for flat, and what these read of white noise's deviation."""


class LazyModule:
    """Imports a module when something of it is first used: declarations are read without torch, operators need it."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)


torch, F = LazyModule("torch"), LazyModule("torch.nn.functional")


def quantise(x: Tensor) -> Tensor:
    """Clips to [0, 1] and rounds to multiples of 1/255."""
    return (x.clamp(0, 1) * 255).round() / 255


def detail_noise(y: Tensor) -> Tensor:
    """Estimates the standard deviation of white noise from the flattest parts of pictures.

    The diagonal details of 2 x 2 pixels hold noise and little else. In each block of 4 x 4 of them their median reads
    the deviation (Donoho and Johnstone, 1994); a twentieth of the blocks lies below what is returned, so that texture
    in the others does not count. Blocks without any detail, which are clipped, are left out.

    Args:
        y: (B, 3, H, W) in [0, 1].

    Returns:
        (B,) on the scale of y, at least `QUANTISATION`.
    """
    height, width = (side - side % 2 for side in y.shape[-2:])
    even, odd = y[..., 0:height:2, :], y[..., 1:height:2, :]
    detail = ((even - odd)[..., 0:width:2] - (even - odd)[..., 1:width:2]).abs() / 2
    side = min(BLOCK, *detail.shape[-2:])
    blocks = detail.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    deviations = blocks.median(-1).values / MEDIAN_OF_NORMAL
    flat = [torch.quantile(row[row > 0], FLAT_SHARE) if (row > 0).any() else row.new_zeros(()) for row in deviations]
    return (torch.stack(flat) / FLAT_BIAS).clamp_min(QUANTISATION)


def truncated_normal(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Draws from N(mean, sd) conditioned on [low, high], by rejection."""
    while True:
        draw = rng.normal(mean, sd)
        if low <= draw <= high:
            return float(draw)


@lru_cache(maxsize=32)
def dct_matrix(n: int, device: str = "cpu") -> Tensor:
    """Builds the orthonormal DCT-II as an (n, n) float32 matrix: rows are frequencies."""
    k, i = np.mgrid[:n, :n]
    matrix = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return torch.tensor(matrix, dtype=torch.float32, device=device)


def dct2(x: Tensor) -> Tensor:
    """Transforms the last two dimensions by the 2-D DCT-II."""
    rows, columns = (dct_matrix(n, str(x.device)).to(x.dtype) for n in x.shape[-2:])
    return rows @ x @ columns.T


def idct2(x: Tensor) -> Tensor:
    """Inverts `dct2`."""
    rows, columns = (dct_matrix(n, str(x.device)).to(x.dtype) for n in x.shape[-2:])
    return rows.T @ x @ columns


def photo_power(height: int, width: int) -> Tensor:
    r"""Returns the mean power of a photograph's DCT-II coefficients on [0, 1]: (height, width).

    :math:`c / f^{3.2}` with f in cycles per pixel, a least-squares fit to 320 crops of 37 photographs at 128 px.
    """
    f2 = (torch.arange(height)[:, None] / (2 * height)) ** 2 + (torch.arange(width) / (2 * width)) ** 2
    return 3.6e-5 / f2.clamp_min(1 / (4 * max(height, width) ** 2)) ** 1.6


def gaussian(picture: Tensor, level: float) -> Tensor:
    """Draws the noise of a picture, (3, H, W) in [0, 1], by `level` grey levels; the picture to 8 bits is its seed."""
    levels = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    digest = hashlib.blake2b(levels.tobytes(), digest_size=16, key=f"{level:.4f}".encode()).digest()
    draws = np.random.default_rng(list(digest)).standard_normal(levels.shape, dtype=np.float32)
    return torch.from_numpy(draws * np.float32(level / 255)).to(picture)


def compress(picture: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    """Encodes uint8 (H, W, 3) as JPEG and decodes it again. subsampling: 4:4:4, 4:2:2 or 4:2:0."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file).convert("RGB"))


def stack(degradations: Sequence[Degradation], device: str = "cpu") -> dict[str, Tensor]:
    r"""Gathers the values of degradations of one type: {key: float32 (B, \*key shape)}."""
    return {
        key: torch.tensor([d[key] for d in degradations], dtype=torch.float32, device=device)
        for key, _ in degradations[0].values
    }


def as_batch(picture: np.ndarray) -> Tensor:
    """Turns uint8 (H, W, 3) into float32 (1, 3, H, W) in [0, 1]."""
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 255


def as_picture(batch: Tensor) -> np.ndarray:
    """Turns float32 (1, 3, H, W) into float32 (H, W, 3), clipped to [0, 1]."""
    return batch[0].clamp(0, 1).permute(1, 2, 0).numpy()
