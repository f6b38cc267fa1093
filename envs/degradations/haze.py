"""Haze: the atmospheric scattering equation (Eq. 3), y = t x + A (1 - t).

t is a number, a g x g grid of block means, or the map itself: what `transmission` holds decides. A grid becomes a map
by bilinear interpolation between nodes chosen so that the map has the grid's block means.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from envs.degradations.common import QUANTISATION, truncated_normal, weight
from envs.taxonomy import DegradationType

THINNEST = 0.05
"""The lowest transmission there is, in a map as in a key: below it nothing is left of a picture."""


def sample(rng: np.random.Generator, size: int, kind: DegradationType, mild: bool = False) -> dict:
    """A ~ N(.65, .15) on [.35, 1]; t ~ N(.42, .15) on [.12, .9]; a grid varies smoothly from bottom to top.

    mild, as a part of a composite: t ~ N(.60, .10) on [.35, .9].
    """
    light = truncated_normal(rng, 0.65, 0.15, 0.35, 1.0)
    mean = truncated_normal(rng, 0.60, 0.10, 0.35, 0.9) if mild else truncated_normal(rng, 0.42, 0.15, 0.12, 0.9)
    shape = kind.key("transmission").shape
    if not shape:
        return {"atmospheric_light": light, "transmission": mean}
    depth = np.linspace(rng.uniform(1.0, 2.0), rng.uniform(0.3, 1.0), shape[0])[:, None]
    depth = depth + rng.normal(0, 0.1, shape)  # relative depth: far at the top, near at the bottom, a little rough
    grid = np.clip(np.exp(np.log(mean) * depth / depth.mean()), THINNEST, 1.0)
    return {"atmospheric_light": light, "transmission": grid.tolist()}


def degrade(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """x: (B, 3, H, W); atmospheric_light: (B,); transmission: (B,), (B, g, g) or, the map itself, (B, H, W)."""
    t, light = _maps(x, values)
    return t * x + light * (1 - t)


def project(
    x0: Tensor, y: Tensor, noise_level: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION
) -> Tensor:
    """There is no null space while t > 0: per pixel, the data with their noise against the prior."""
    t, light = _maps(x0, values)
    return x0 + weight(t, noise_level, data_noise) * (y - light * (1 - t) - t * x0)


def closed_form(y: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION) -> Tensor:
    t, light = _maps(y, values)
    return (y - light * (1 - t)) / t


def block_means(t: np.ndarray, grid: int) -> np.ndarray:
    """Means over grid x grid blocks of a map: (H, W) -> (grid, grid) float64. Blocks may share a border pixel."""
    rows, columns = (_blocks(n, grid).numpy() for n in t.shape)
    return rows @ t.astype(np.float64) @ columns.T


def _maps(x: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Transmission as a (B, 1, H, W) map and A as (B, 1, 1, 1)."""
    t = values["transmission"]
    t = t.reshape(len(t), 1, *(t.shape[1:] or (1, 1)))
    if t.shape[-1] == 1:  # not broadcast: pictures are reproduced to the byte, and this rounds as it always did
        t = F.interpolate(t, size=x.shape[-2:], mode="bilinear", align_corners=False)
    elif t.shape[-2:] != x.shape[-2:]:
        rows, columns = (_spread(n, t.shape[-1]).to(t.device) for n in x.shape[-2:])
        t = (rows @ t @ columns.T).clamp(THINNEST, 1)
    return t, values["atmospheric_light"].reshape(-1, 1, 1, 1)


def _blocks(n: int, grid: int) -> Tensor:
    """(grid, n): the mean over each of `grid` blocks of n pixels."""
    return F.adaptive_avg_pool1d(torch.eye(n, dtype=torch.float64), grid).T


@lru_cache(maxsize=64)
def _spread(n: int, grid: int) -> Tensor:
    """(n, grid) float32: linear interpolation between `grid` nodes, the nodes such that block means are kept."""
    nodes = torch.eye(grid, dtype=torch.float64)[None]
    linear = F.interpolate(nodes, size=n, mode="linear", align_corners=False)[0].T
    return (linear @ torch.linalg.inv(_blocks(n, grid) @ linear)).float()
