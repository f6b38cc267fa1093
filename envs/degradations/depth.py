"""Relative depth of a picture and the haze it makes: t(x) = exp(-beta d(x)) (Eq. 3).

Depth comes from a file beside the photo or is drawn. Only its ratios matter: it is scaled to mean 1, and beta is solved
for, so that the mean transmission follows the same law with depth as without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from configs import UserError
from envs.degradations import draw
from envs.degradations.haze import THINNEST, block_means

if TYPE_CHECKING:
    from envs.taxonomy import Degradation, Taxonomy

KINDS = ("ground_plane", "radial", "smooth")
SUFFIXES = (".depth.png", ".depth.npy", ".disparity.png", ".disparity.npy")
FARTHEST = 0.02
"""A disparity below this share of the largest counts as this: depth is its inverse, and the sky would be all of it."""
LEVELS = 65535
"""Maps are kept as 16-bit pictures; a true map is made of multiples of 1 / LEVELS, so that none of it is lost."""


def sample(
    taxonomy: Taxonomy, type_name: str, rng: np.random.Generator, size: int, depth: np.ndarray | None
) -> tuple[Degradation, np.ndarray | None]:
    """Draws a degradation as `envs.degradations.sample` does, with haze that follows depth.

    Args:
        depth: (H, W) of the picture to be degraded; None leaves haze as `envs.degradations.sample` draws it.

    Returns:
        (the degradation, whose transmission is the mean or the block means of the map; the map, float32 (H, W), or
        None without depth or haze). `degrade` takes the map.
    """
    kind = taxonomy[type_name]
    if depth is None or not kind.follows_depth:
        return taxonomy.degradation(type_name, draw(kind, rng, size, taxonomy.is_open)), None
    keys = tuple(replace(key, shape=()) if key.name == "transmission" else key for key in kind.keys)
    values = draw(replace(kind, keys=keys), rng, size, taxonomy.is_open)
    t = transmission_map(depth, values["transmission"])
    shape = kind.key("transmission").shape
    means = block_means(t, shape[0]).tolist() if shape else float(t.mean(dtype=np.float64))
    return taxonomy.degradation(type_name, {**values, "transmission": means}), t


def transmission_map(depth: np.ndarray, mean: float) -> np.ndarray:
    """Solves max(exp(-beta d), `THINNEST`) for the beta of this mean: float32 (H, W), multiples of 1 / LEVELS.

    Raises:
        ValueError: no beta does: the mean is not between THINNEST and 1.
    """
    if not THINNEST < mean < 1:
        raise ValueError(f"a mean transmission lies between {THINNEST} and 1, not at {mean}")
    depth, low, high = depth.astype(np.float64), 0.0, 1.0

    def haze(beta):
        return np.maximum(np.exp(-beta * depth), THINNEST)

    while haze(high).mean() > mean:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if haze(middle).mean() > mean else (low, middle)
    return _from_levels(np.round(haze(high) * LEVELS))


def encode_map(t: np.ndarray) -> bytes:
    """Writes a true map as a 16-bit grey PNG; `decode_map` gives it back exactly."""
    return cv2.imencode(".png", np.round(t.astype(np.float64) * LEVELS).astype(np.uint16))[1].tobytes()


def decode_map(png: bytes) -> np.ndarray:
    """Reads a map of `encode_map`: float32 (H, W)."""
    return _from_levels(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).astype(np.float64))


def procedural(rng: np.random.Generator, height: int, width: int, kind: str | None = None) -> np.ndarray:
    """Draws a depth, float32 (height, width), mean 1. kind: one of `KINDS`, drawn too if not given.

    ground_plane: a plain below a horizon, 1 / (v - horizon), as far as a wall 4 to 8 times the nearest distance.
    radial: a hollow deepest near the middle, as a street or a corridor is. smooth: log-normal hills.
    """
    kind = kind or KINDS[rng.integers(len(KINDS))]
    v, u = ((np.arange(n) + 0.5) / n for n in (height, width))
    v = v[:, None]
    if kind == "ground_plane":
        horizon, farthest, tilt = rng.uniform(-0.1, 0.35), rng.uniform(4, 8), rng.uniform(-0.15, 0.15)
        below = (v + tilt * (u - 0.5) - horizon) / (1 - horizon)
        depth = 1 / np.maximum(below, 1 / farthest)
    elif kind == "radial":
        middle, deep, wide = rng.uniform(0.3, 0.7, 2), rng.uniform(1, 2.5), rng.uniform(0.25, 0.5)
        depth = 0.4 + deep * np.exp(-((v - middle[0]) ** 2 + (u - middle[1]) ** 2) / wide**2)
    else:
        hills = cv2.resize(rng.normal(0, 0.6, (4, 4)), (width, height), interpolation=cv2.INTER_CUBIC)
        depth = np.exp(hills)
    return scaled(np.broadcast_to(depth, (height, width)))


def scaled(depth: np.ndarray) -> np.ndarray:
    """Divides a depth by its mean: float32."""
    return (depth / depth.mean(dtype=np.float64)).astype(np.float32)


def from_transmission(t: np.ndarray) -> np.ndarray:
    """Recovers the relative depth that made a map of transmission (float32 (H, W)): d = -log t / beta, mean 1.

    What was so far that t was `THINNEST` is all at one distance.
    """
    return scaled(-np.log(np.maximum(t, THINNEST)))


def find_depth(photo: Path) -> Path | None:
    """Finds the depth file of a photo: NAME.depth.png, NAME.depth.npy, NAME.disparity.png or NAME.disparity.npy."""
    return next((file for suffix in SUFFIXES if (file := photo.with_suffix(suffix)).is_file()), None)


def beside(photo: Path) -> Path:
    """Finds the depth file of a photo that must have one.

    Raises:
        UserError: it has none.
    """
    if file := find_depth(photo):
        return file
    names = ", ".join(photo.stem + suffix for suffix in SUFFIXES)
    raise UserError(
        f"{photo} has no depth: expected one of {names} beside it; `duvlm run depth photos=FOLDER model=NAME` writes"
        " it, or set world.depth=procedural"
    )


@lru_cache(maxsize=2)
def read_depth(photo: Path, height: int, width: int) -> np.ndarray:
    """Reads depth from the file beside a photo of this size: float32 (height, width), mean 1.

    Numbers are depth in any unit, or disparity, whose inverse is depth. 0, infinite and missing ones are unknown and
    become those of the nearest known pixel.

    Raises:
        UserError: there is no such file, it cannot be read, or is of another shape than the photo.
    """
    file = beside(photo)
    depth = _numbers(file)
    if abs(depth.shape[1] / depth.shape[0] - width / height) > 0.02 * width / height:
        came = f"{depth.shape[1]} x {depth.shape[0]}"
        raise UserError(f"{file} is {came}: expected the shape of its {width} x {height} photo")
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        raise UserError(f"{file} holds no depth: expected positive numbers")
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    depth = depth[tuple(nearest)]
    if ".disparity." in file.name.lower():
        depth = 1 / np.maximum(depth, FARTHEST * depth.max())
    return scaled(cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR))


def relative(
    source: str, photo: Path, shape: Sequence[int], square: tuple[int, int, int], size: int, rng: np.random.Generator
) -> np.ndarray | None:
    """Gets the depth of a square of a photo at `size` pixels a side, as `world.depth` says; None where it says none.

    Args:
        source: none, file or procedural.
        shape: (height, width, ...) of the photo.
        square: (top, left, side) in it.

    Raises:
        UserError: it comes from files, and the photo has none that can be read.
    """
    if source == "file":
        return cropped(read_depth(photo, *shape[:2]), *square, size)
    return procedural(rng, size, size) if source == "procedural" else None


def cropped(depth: np.ndarray, top: int, left: int, side: int, size: int) -> np.ndarray:
    """Cuts out the depth of a square of a photo, reduced to `size` pixels a side like the photo; float32, mean 1."""
    square = depth[top : top + side, left : left + side]
    return scaled(square if side == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA))


def _from_levels(levels: np.ndarray) -> np.ndarray:
    return (levels / LEVELS).astype(np.float32)


def _numbers(file: Path) -> np.ndarray:
    """(H, W) float64 of a depth file."""
    try:
        numbers = np.load(file) if file.suffix == ".npy" else cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if numbers is None or numbers.dtype.kind not in "fiu" or numbers.ndim not in (2, 3):
        raise UserError(f"{file} is no depth map: expected a grey PNG or an array (H, W) of numbers")
    return (numbers if numbers.ndim == 2 else numbers[..., 0]).astype(np.float64)
