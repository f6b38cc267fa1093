"""Cuts a photograph into overlapping tiles that are restored by themselves, and puts them together without seams.

Operators and prior see one tile at a time, so memory and time grow with the number of pixels and no faster. A border
that the photograph does not have is wrong within the reach of the degradation: so much of each tile is thrown away, and
over a further stretch neighbours are blended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from envs.degradations import Coding, estimate_noise, part_of
from envs.degradations.base import Place
from envs.degradations.common import QUANTISATION, as_batch
from envs.taxonomy import Degradation
from reward_actors.priors.base import Prior
from reward_actors.priors.gaussian import GaussianPrior, photo_gaussian
from reward_actors.restoration.frame import extended
from reward_actors.restoration.presets import Restorer, restorer
from reward_actors.restoration.running_batch import restore_batch

LARGE = 4_000_000
"""Pixels above which a photograph is restored with one call of the prior, by `IN_ONE_CALL`."""
IN_ONE_CALL = "once"
SIDE = 512
"""Pixels of a tile, which goes through a network in one piece, with at most `frame.FARTHEST` more on each side."""
RAMP = 24
"""Pixels over which neighbouring tiles are blended."""
NARROWEST, WIDEST = 24, 96
"""Pixels thrown away at a border that is not the photograph's, at least and at most."""
LATTICE = 48
"""Tiles begin at multiples of this many pixels: of the blocks of JPEG and of the cells of low resolution (2, 3, 4)."""


@dataclass(frozen=True)
class Tile:
    """Locates a tile in a photograph: rows and columns from `top` and `left` on, to before `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Indexes the tile in an array (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Mosaic:
    """Lays out the tiles of one photograph and collects them restored.

    >>> mosaic = Mosaic(600, 900, margin=24)
    >>> for tile in mosaic.tiles:
    ...     mosaic.add(tile, np.zeros((tile.bottom - tile.top, tile.right - tile.left, 3), np.float32))
    >>> mosaic.picture().shape
    (600, 900, 3)
    """

    def __init__(self, height: int, width: int, margin: int, side: int = SIDE):
        """margin: pixels thrown away at inner borders. side: of a tile; smaller photographs are one tile."""
        self._margin, self._size = margin, (height, width)
        starts = [list(_starts(n, side, 2 * (margin + RAMP))) for n in (height, width)]
        self.tiles = [
            Tile(top, left, min(top + side, height), min(left + side, width)) for top in starts[0] for left in starts[1]
        ]
        self._total = np.zeros((height, width, 3), np.float32)
        self._weights = np.zeros((height, width, 1), np.float32)

    def add(self, tile: Tile, restored: np.ndarray) -> None:
        """Takes in a restored tile, (h, w, 3)."""
        rows = self._ramp(tile.top, tile.bottom, self._size[0])
        columns = self._ramp(tile.left, tile.right, self._size[1])
        weight = (rows[:, None] * columns)[..., None]
        self._total[tile.window] += weight * restored
        self._weights[tile.window] += weight

    def picture(self) -> np.ndarray:
        """Returns what was put together, float32 (H, W, 3)."""
        self._total /= self._weights
        return self._total

    def _ramp(self, begin: int, end: int, length: int) -> np.ndarray:
        """Weights along one side: 1 inside, 0 in the margin of an inner border, linear between."""
        position = np.arange(end - begin, dtype=np.float32) + 1
        weight = np.ones_like(position)
        if begin > 0:
            weight = np.minimum(weight, (position - self._margin) / RAMP)
        if end < length:
            weight = np.minimum(weight, (position[::-1] - self._margin) / RAMP)
        return weight.clip(0, 1)


def piece_of(
    photo: np.ndarray, tile: Tile, degradation: Degradation, sigma_y: float | None = None
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Cuts a tile out of a photograph, uint8 (H, W, 3), and extends it where it touches the border (`extended`).

    Returns:
        The tile, and where in it the pixels of the photograph are.
    """
    height, width = photo.shape[:2]
    given = np.ascontiguousarray(photo[tile.window])
    inside = tile.top > 0 and tile.left > 0 and tile.bottom < height and tile.right < width
    return (given, np.s_[:, :]) if inside else extended(given, degradation, sigma_y)


def restore_in_tiles(
    prior: Prior,
    chosen: Restorer,
    photo: np.ndarray,
    degradation: Degradation,
    name: str,
    sigma_y: float | None = None,
    progress: Callable[[Sequence[Tile]], Iterable[Tile]] = iter,
    workers: int = 1,
) -> np.ndarray:
    """Restores a photograph of any size tile by tile, in this process.

    Args:
        photo: uint8 (H, W, 3). degradation: what is to be undone, in its pixels.
        name: whose noise is used, tile by tile. sigma_y: standard deviation of the noise of the photograph on [0, 1].
        progress: goes over the tiles and shows how far it is. workers: tiles that are restored at once, one core each.

    Returns:
        float32 (H, W, 3) in [0, 1].
    """
    height, width = photo.shape[:2]
    mosaic = Mosaic(height, width, margin_of(degradation))

    def restored(tile: Tile) -> np.ndarray:
        given, inside = piece_of(photo, tile, degradation, sigma_y)
        within = part_of(degradation, tile.window, photo.shape[:2])
        # an analytic prior is made for one size, and cheap at any
        sides = given.shape[0], given.shape[1]
        fitting = photo_gaussian(*sides, str(prior.device)) if isinstance(prior, GaussianPrior) else prior
        names = [f"{name}/{tile.top}/{tile.left}"]
        return restore_batch(fitting, chosen, [given], [within], names, sigma_y=sigma_y)[0][inside]

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for tile, picture in zip(progress(mosaic.tiles), pool.map(restored, mosaic.tiles), strict=True):
            mosaic.add(tile, picture)
    return mosaic.picture()


def noise_of(
    photo: np.ndarray, degradation: Degradation, estimated: bool, coding: Coding | None = None
) -> float | None:
    """Says what noise a photograph has, one number for all of it: the median over nine windows where it is large.

    Args:
        estimated: it is read off the photograph; otherwise it is that of 8-bit rounding, which None stands for.
        coding: how the JPEG file was written that it came in: the noise is no less than what its steps leave, unless
            the answer speaks of JPEG itself.
    """
    coding = None if any(part.place == Place.FILE for part in degradation.phenomena) else coding
    if not estimated and not coding:
        return None
    sides = [min(SIDE, n) for n in photo.shape[:2]]
    starts = [
        sorted({round(share * (n - side)) // 16 * 16 for share in (0.1, 0.5, 0.9)})
        for n, side in zip(photo.shape[:2], sides, strict=True)
    ]
    windows = [
        np.ascontiguousarray(photo[top : top + sides[0], left : left + sides[1]])
        for top in starts[0]
        for left in starts[1]
    ]
    readings = [QUANTISATION]
    if estimated:
        readings.append(np.median([float(estimate_noise(as_batch(each), [degradation])) for each in windows]))
    if coding:
        readings.append(np.median([coding.noise_in(each) for each in windows]))
    return float(max(readings))


def restorer_for(name: str, steps: int, pixels: int) -> Restorer:
    """Looks up the restorer of a photograph of so many pixels: another than the one named where that would call the
    prior more often than once for a large one."""
    chosen = restorer(name, steps)
    return chosen if pixels <= LARGE or chosen.calls <= 1 else restorer(IN_ONE_CALL)


def margin_of(degradation: Degradation) -> int:
    """Computes how far a border that is not the photograph's may be felt: four times its longest length in pixels."""
    keys = {key.name: key for part in degradation.phenomena for key in part.keys}
    lengths = [value for name, value in degradation.values if name in keys and keys[name].in_pixels]
    return int(min(max([NARROWEST, *(4 * length for length in lengths)]), WIDEST))


def _starts(length: int, side: int, overlap: int) -> Iterator[int]:
    """Begins of tiles along a side, on the lattice; the last one ends with the photograph and may be shorter."""
    start, stride = 0, max(LATTICE, (side - overlap) // LATTICE * LATTICE)
    yield start
    while start + side < length:
        start += stride
        yield start
