"""Low resolution: bicubic reduction (antialiased), shown enlarged by pixel replication.

The operator acts between the image and the small grid, which replication lets one read back exactly, by index.
It is separable, with condition number 1.5: one cached matrix and pseudo-inverse per (size, scale).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from envs.degradations.common import QUANTISATION
from envs.taxonomy import DegradationType


def sample(rng: np.random.Generator, size: int, kind: DegradationType, mild: bool = False) -> dict:
    """scale uniform in {2, 3, 4}; mild, as a part of a composite, in {2, 3}."""
    return {"scale": int(rng.integers(2, 4 if mild else 5))}


def degrade(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """x: (B, 3, H, W); scale: (B,)."""
    return _by_scale(_degrade, values, x)


def project(
    x0: Tensor, y: Tensor, noise_level: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION
) -> Tensor:
    """x0 - A+ (A x0 - y): exact null-space projection, the operator being well conditioned.

    Bicubic overshoots and 8 bits clip it: where y is black or white, A x0 may lie beyond and still agree with y.
    """
    return _by_scale(_project, values, x0, y)


def closed_form(y: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION) -> Tensor:
    """The bicubic enlargement of the small grid, projected onto it: smoother than A+ y, and as true to the data."""
    return _by_scale(lambda y, scale: _project(_bicubic(y, scale), y, scale), values, y)


def pseudo_inverse(y: Tensor, values: dict[str, Tensor]) -> Tensor:
    """A+ y: of all pictures that give y, the one with the least energy."""
    return _by_scale(lambda y, scale: _project(torch.zeros_like(y), y, scale), values, y)


def _bicubic(y: Tensor, scale: int) -> Tensor:
    rows, columns = (reduction(n, scale, str(y.device)) for n in y.shape[-2:])
    small = y[..., rows.pick[:, None], columns.pick]
    return F.interpolate(small, size=y.shape[-2:], mode="bicubic", align_corners=False)


def _degrade(x: Tensor, scale: int) -> Tensor:
    rows, columns = (reduction(n, scale, str(x.device)) for n in x.shape[-2:])
    small = rows.reduce @ x @ columns.reduce.T
    return small.clamp(0, 1)[..., rows.enlarge[:, None], columns.enlarge]


def _project(x0: Tensor, y: Tensor, scale: int) -> Tensor:
    rows, columns = (reduction(n, scale, str(y.device)) for n in y.shape[-2:])
    error = misfit(rows.reduce @ x0 @ columns.reduce.T, y, scale)
    return x0 - rows.inverse @ error @ columns.inverse.T


def misfit(reduced: Tensor, y: Tensor, scale: int) -> Tensor:
    """Reduced pictures (B, 3, h, w) less the small grid of y (B, 3, H, W), 0 where clipping explains the difference."""
    rows, columns = (reduction(n, scale, str(y.device)) for n in y.shape[-2:])
    small = y[..., rows.pick[:, None], columns.pick]
    error = reduced - small
    return torch.where(small >= 1, error.clamp_max(0), torch.where(small <= 0, error.clamp_min(0), error))


@dataclass(frozen=True)
class Reduction:
    """One dimension of n pixels and m = round(n / scale) cells.

    reduce: (m, n); inverse: (n, m), its pseudo-inverse; enlarge: (n,) a cell per pixel; pick: (m,) a pixel per cell.
    """

    reduce: Tensor
    inverse: Tensor
    enlarge: Tensor
    pick: Tensor


@lru_cache(maxsize=64)
def reduction(n: int, scale: int, device: str = "cpu") -> Reduction:
    m = max(1, round(n / scale))
    impulses = torch.eye(n, dtype=torch.float64)[None, None]
    reduce = F.interpolate(impulses, size=(m, n), mode="bicubic", antialias=True, align_corners=False)[0, 0]
    enlarge = torch.arange(n) * m // n
    pick = torch.tensor([int((enlarge == cell).nonzero()[0]) for cell in range(m)])
    inverse = torch.linalg.pinv(reduce)
    return Reduction(reduce.float().to(device), inverse.float().to(device), enlarge.to(device), pick.to(device))


def _by_scale(function, values: dict[str, Tensor], *tensors: Tensor) -> Tensor:
    scales = values["scale"].round().int().tolist()
    result = torch.empty_like(tensors[0])
    for scale in dict.fromkeys(scales):
        rows = [i for i, s in enumerate(scales) if s == scale]
        result[rows] = function(*(t[rows] for t in tensors), scale)
    return result
