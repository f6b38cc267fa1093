"""Low resolution: bicubic reduction (antialiased), shown enlarged by pixel replication."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from envs.degradations.base import Key, Operator, Phenomenon, Place, Severity
from envs.degradations.common import QUANTISATION, F, Tensor, as_batch, as_picture, detail_noise, stack, torch

if TYPE_CHECKING:
    from envs.taxonomy import Degradation

LATTICE = 1.4
"""How many times larger the steps between cells are than those within them, at least, in a picture of replicated
pixels. (Files of photographs: 1.74 under noise of 3 grey levels and JPEG 85, 1.21 under JPEG 50, .87 to 1.65 enlarged
by interpolation.)"""
REPLICATED = 0.4
"""Share of neighbours along a row that are equal above which pixels were replicated: by a scale of 2 it is a half."""


class LowResolution(Phenomenon):
    r"""Models a picture stored too small:

    .. math:: y = U R_s x, \qquad R_s x = D_h x D_w^\top

    with D the bicubic reduction of one dimension by s and U the replication of pixels. The operator acts between the
    image and the small grid, which replication lets one read back: a pixel of each cell, or their mean where noise or
    JPEG came later. It is separable, with condition number 1.5: one cached matrix and pseudo-inverse per (size, scale).
    """

    name, title = "low_resolution", "low resolution"
    place = Place.STORAGE
    shows_when_reduced = False
    keys = (Key("scale", "1", 2.0, 8.0, 1.0, in_pixels=True),)
    severity = Severity("scale", moderate=2.5, severe=3.5, thirds=(2.5, 3.5))
    formula = "bicubic reduction by an integer scale, shown enlarged by pixel replication"

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws scale uniformly from {2, 3, 4}; mild: from {2, 3}."""
        return {"scale": int(rng.integers(2, 4 if mild else 5))}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return _by_scale(_degrade, values, x)

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Projects onto the data, the operator being well conditioned: :math:`x_0 - w A^+ (A x_0 - y)`.

        w is 1, exact, where the data have no noise but that of rounding, else :math:`s^2 / (s^2 + \sigma_y^2)`.
        Bicubic overshoots and 8 bits clip it: where y is black or white, A x0 may lie beyond and still agree with y.
        """
        projected = _by_scale(_project, values, x0, y)
        if isinstance(sigma_y, float) and sigma_y <= QUANTISATION:
            return projected
        s2 = noise_level.square().reshape(-1, 1, 1, 1)
        weight = torch.where(sigma_y <= 1.01 * QUANTISATION, 1.0, s2 / (s2 + sigma_y**2))
        return x0 + weight * (projected - x0)

    def fits(self, picture: np.ndarray, degradation: Degradation) -> bool:
        """Tells whether a picture has the cells of replicated pixels; one that was enlarged smoothly has none."""
        return math.prod(phase_of(picture, degradation["scale"], axis)[1] for axis in (0, 1)) >= LATTICE**2

    def padding(self, picture: np.ndarray, degradation: Degradation) -> tuple[tuple[int, int], tuple[int, int]]:
        """Completes the cells at the borders of a picture that was cut after it had been enlarged."""
        scale, pads = round(degradation["scale"]), []
        for axis, n in enumerate(picture.shape[:2]):
            phase = phase_of(picture, scale, axis)[0]
            before = -(phase or 0) % scale
            pads.append((0, 0) if phase is None else (before, -(before + n) % scale))
        return pads[0], pads[1]

    def estimate_noise(self, y: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Looks at the pixel or the mean of each cell."""
        scales = values["scale"].round().int().tolist()
        return torch.cat([detail_noise(_small_grid(y[i : i + 1], scale)) for i, scale in enumerate(scales)])

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Projects the bicubic enlargement onto the data: smoother than :math:`A^+ y`, and as true to them."""
        return _by_scale(lambda y, scale: _project(_bicubic(y, scale), y, scale), values, y)

    def joint_with(self, before: str) -> Operator | None:
        from envs.degradations.reduced_blur import ReducedBlur

        return ReducedBlur() if before == "blur" else None

    def classical(self):
        return {"bicubic": self.bicubic, "pseudo-inverse": self.pseudo_inverse}

    def bicubic(self, degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
        """Enlarges the small picture behind the replicated pixels by bicubic interpolation."""
        height, width = degraded.shape[:2]
        rows, columns = (max(1, round(n / degradation["scale"])) for n in (height, width))
        return enlarge(cells(degraded, rows, columns), height, width)

    def pseudo_inverse(self, degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
        r"""Restores by :math:`A^+ y`: of all pictures that give y, the one with the least energy."""
        y = as_batch(degraded)
        return as_picture(_by_scale(lambda y, scale: _project(torch.zeros_like(y), y, scale), stack([degradation]), y))

    def blind(self, degraded: np.ndarray) -> np.ndarray:
        """Counts the replicated rows and columns, and enlarges one pixel of each cell by bicubic interpolation."""
        height, width = degraded.shape[:2]
        rows = 1 + int((degraded[1:] != degraded[:-1]).any((1, 2)).sum())
        columns = 1 + int((degraded[:, 1:] != degraded[:, :-1]).any((0, 2)).sum())
        return enlarge(cells(degraded, rows, columns), height, width)


PHENOMENON = LowResolution()


def cells(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Picks one pixel of each replicated cell: (rows, columns, 3)."""
    picks = (-(-np.arange(count) * n // count) for count, n in zip((rows, columns), picture.shape[:2], strict=True))
    return picture[np.ix_(*picks)]


def phase_of(picture: np.ndarray, scale: float, axis: int) -> tuple[int | None, float]:
    """Finds where the cells of replicated pixels begin along an axis of a picture, (H, W, 3).

    Returns:
        The first pixel at which a cell begins, 0 .. scale - 1, where cells of `scale` pixels fit clearly better than
        those of `Reduction`; else None. And how many times larger steps between cells are than those within them.
    """
    lines, scale = np.moveaxis(picture, axis, 0), round(scale)
    steps = np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in zip(lines[1:], lines[:-1], strict=True)])
    n = len(lines)
    between = [np.diff(np.arange(n) * max(1, round(n / scale)) // n) > 0]
    between += [(np.arange(1, n) - phase) % scale == 0 for phase in range(scale)]
    own, *others = [float((steps[at].mean() + 0.05) / (steps[~at].mean() + 0.05)) for at in between]
    best = int(np.argmax(others))
    return (best, others[best]) if others[best] > LATTICE * max(own, 1) else (None, own)


def enlarge(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarges uint8 to float32 (height, width, 3) in [0, 1], bicubic."""
    unit = small.astype(np.float32) / 255
    return cv2.resize(unit, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def misfit(reduced: Tensor, y: Tensor, scale: int) -> Tensor:
    """Compares reduced pictures (B, 3, h, w) with the small grid of y (B, 3, H, W); 0 where clipping explains the
    difference."""
    small = _small_grid(y, scale)
    error = reduced - small
    return torch.where(small >= 1, error.clamp_max(0), torch.where(small <= 0, error.clamp_min(0), error))


@dataclass(frozen=True)
class Reduction:
    """One dimension of n pixels and m = round(n / scale) cells.

    reduce: (m, n); inverse: (n, m), its pseudo-inverse; enlarge: (n,) a cell per pixel; pick: (m,) a pixel per cell;
    mean: (m, n), averages the pixels of each cell.
    """

    reduce: Tensor
    inverse: Tensor
    enlarge: Tensor
    pick: Tensor
    mean: Tensor


@lru_cache(maxsize=64)
def reduction(n: int, scale: int, device: str = "cpu") -> Reduction:
    """Computes the reduction of n pixels by `scale`, in float64 until the last step."""
    m = max(1, round(n / scale))
    impulses = torch.eye(n, dtype=torch.float64)[None, None]
    reduce = F.interpolate(impulses, size=(m, n), mode="bicubic", antialias=True, align_corners=False)[0, 0]
    enlarge = torch.arange(n) * m // n
    pick = torch.tensor([int((enlarge == cell).nonzero()[0]) for cell in range(m)])
    inside = (enlarge == torch.arange(m)[:, None]).double()
    parts = reduce, torch.linalg.pinv(reduce), enlarge, pick, inside / inside.sum(1, keepdim=True)
    return Reduction(*(part.float().to(device) if part.is_floating_point() else part.to(device) for part in parts))


def _reductions(y: Tensor, scale: int) -> tuple[Reduction, Reduction]:
    rows, columns = (reduction(n, scale, str(y.device)) for n in y.shape[-2:])
    return rows, columns


def _small_grid(y: Tensor, scale: int) -> Tensor:
    """Takes one pixel of each cell where pixels were replicated to the bit, by whatever scale; else averages each."""
    rows, columns = _reductions(y, scale)
    one = y[..., rows.pick[:, None], columns.pick]
    equal = (y[..., 1:] == y[..., :-1]).all(-3).float().mean((-2, -1))
    mean = rows.mean @ y @ columns.mean.T
    return torch.where((equal > REPLICATED)[..., None, None, None], one, mean)


def _bicubic(y: Tensor, scale: int) -> Tensor:
    return F.interpolate(_small_grid(y, scale), size=y.shape[-2:], mode="bicubic", align_corners=False)


def _degrade(x: Tensor, scale: int) -> Tensor:
    rows, columns = _reductions(x, scale)
    small = rows.reduce @ x @ columns.reduce.T
    return small.clamp(0, 1)[..., rows.enlarge[:, None], columns.enlarge]


def _project(x0: Tensor, y: Tensor, scale: int) -> Tensor:
    rows, columns = _reductions(y, scale)
    error = misfit(rows.reduce @ x0 @ columns.reduce.T, y, scale)
    return x0 - rows.inverse @ error @ columns.inverse.T


def _by_scale(function, values: dict[str, Tensor], *tensors: Tensor) -> Tensor:
    scales = values["scale"].round().int().tolist()
    result = torch.empty_like(tensors[0])
    for scale in dict.fromkeys(scales):
        rows = [i for i, s in enumerate(scales) if s == scale]
        result[rows] = function(*(t[rows] for t in tensors), scale)
    return result
