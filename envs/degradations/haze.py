"""Haze: the atmospheric scattering equation (Eq. 3), uniform or by a map of transmission."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import QUANTISATION, F, Tensor, torch, truncated_normal

THINNEST = 0.05
"""The lowest transmission there is, in a map as in a key: below it nothing is left of a picture."""
MIN_CHANGE = 4.0
"""Mean |degraded - clean| in grey levels below which nobody calls it haze."""
MAX_CHANGE = 120.0
"""Half the range: a dark scene under dense bright haze, one of a hundred draws."""
MIN_DEPTH_RATIO = 1.5
"""Below it everything is at one distance, a wall or a close-up indoors: air thick enough to veil it would hide
whatever is a little farther."""
DARK_WINDOW, GUIDE_WINDOW = 1 / 9, 1 / 6  # of the shorter side
HAZE_KEPT, BLIND_THINNEST = 0.05, 0.1


class Haze(Phenomenon):
    r"""Models light scattered by air:

    .. math:: y = t x + A (1 - t)

    with the transmission t, a number, a g x g grid of block means, or the map itself: what `transmission` holds
    decides. A grid becomes a map by bilinear interpolation between nodes chosen so that the map has its block means.
    """

    name = title = "haze"
    place = Place.AIR
    keys = (
        Key("atmospheric_light", "intensity", 0.30, 1.0, 0.01),
        Key("transmission", "1", THINNEST, 1.0, 0.01),
    )
    severity = Severity("transmission", moderate=0.55, severe=0.35, thirds=(0.487, 0.362))
    formula = "y = t x + A (1 - t), x the clean image on [0, 1], A the atmospheric light, t the transmission"
    has_null_space = False  # while t > 0
    follows_depth = True

    def keys_in(self, world):
        if not 1 <= (grid := world.transmission_grid) <= 8:
            raise ValueError(f"transmission_grid lies in 1 .. 8, not {grid}")
        light, transmission = self.keys
        return (light, replace(transmission, shape=(grid, grid), over_picture=True) if grid > 1 else transmission)

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws A ~ N(.65, .15) on [.35, 1], t ~ N(.42, .15) on [.12, .9], mild: N(.60, .10) on [.35, .9]; a grid
        varies smoothly from bottom to top."""
        light = truncated_normal(rng, 0.65, 0.15, 0.35, 1.0)
        mean = truncated_normal(rng, 0.60, 0.10, 0.35, 0.9) if mild else truncated_normal(rng, 0.42, 0.15, 0.12, 0.9)
        shape = kind.key("transmission").shape
        if not shape:
            return {"atmospheric_light": light, "transmission": mean}
        depth = np.linspace(rng.uniform(1.0, 2.0), rng.uniform(0.3, 1.0), shape[0])[:, None]
        depth = depth + rng.normal(0, 0.1, shape)  # relative depth: far at the top, near at the bottom, a little rough
        grid = np.clip(np.exp(np.log(mean) * depth / depth.mean()), THINNEST, 1.0)
        return {"atmospheric_light": light, "transmission": grid.tolist()}

    def sample_wide(self, rng, size, kind) -> dict:
        """Draws by the law of the paper in half of the cases where haze is alone, else A ~ U(.5, 1), t ~ U(.2, .8)."""
        if kind.key("transmission").shape or (len(kind.parts) == 1 and rng.random() < 0.5):
            return self.sample(rng, size, kind, mild=len(kind.parts) > 1)
        return {"atmospheric_light": rng.uniform(0.5, 1.0), "transmission": rng.uniform(0.2, 0.8)}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Applies atmospheric_light (B,) and transmission (B,), (B, g, g) or, the map itself, (B, H, W)."""
        t, light = _maps(x, values)
        return t * x + light * (1 - t)

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Weighs, per pixel, the data with their noise against the prior, there being no null space (DDNM+):

        .. math:: \hat x = x_0 + \frac{t s^2}{t^2 s^2 + \sigma_y^2} (y - A (1 - t) - t x_0)
        """
        t, light = _maps(x0, values)
        s2 = noise_level.square().reshape(-1, 1, 1, 1)
        weight = t * s2 / (t.square() * s2 + sigma_y**2)
        return x0 + weight * (y - light * (1 - t) - t * x0)

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Inverts the equation: :math:`(y - A (1 - t)) / t`."""
        t, light = _maps(y, values)
        return (y - light * (1 - t)) / t

    def within(self, key, value, window, size):
        """Averages the map of a grid over the blocks of the window."""
        if not isinstance(value, tuple):
            return value
        rows, columns = (_spread(n, len(value))[part].numpy() for n, part in zip(size, window, strict=True))
        means = block_means((rows @ np.float32(value) @ columns.T).clip(THINNEST, 1), len(value))
        return tuple(map(tuple, means.tolist()))

    def classical(self):
        return {"haze formula": self.estimate}

    def blind(self, degraded: np.ndarray) -> np.ndarray:
        """Applies the dark channel prior (He, Sun, Tang 2009): (y - A) / max(t, .1) + A with t = 1 - .95 dark(y / A),
        A the mean of the .1 % haziest pixels, t smoothed by a guided filter."""
        y = degraded.astype(np.float32) / 255
        side = min(y.shape[:2])
        dark = _dark(y, side)
        brightest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
        light = y.reshape(-1, 3)[brightest].mean(0).clip(1 / 255, 1)
        rough = 1 - (1 - HAZE_KEPT) * _dark(y / light, side)
        t = guided_filter(cv2.cvtColor(y, cv2.COLOR_RGB2GRAY), rough, round(side * GUIDE_WINDOW), 1e-3)
        return ((y - light) / np.maximum(t, BLIND_THINNEST)[..., None] + light).clip(0, 1).astype(np.float32)

    def faults(self, change, depth_ratio, alone) -> tuple[str, ...]:
        """Names too thin and too dense haze, and haze over a scene that is all near."""
        faults = {
            "haze_thin": alone and change < MIN_CHANGE,
            "haze_opaque": alone and change > MAX_CHANGE,
            "haze_near": depth_ratio is not None and depth_ratio < MIN_DEPTH_RATIO,
        }
        return tuple(name for name, is_so in faults.items() if is_so)


PHENOMENON = Haze()


def block_means(t: np.ndarray, grid: int) -> np.ndarray:
    """Averages a map over grid x grid blocks, which may share a border pixel: (H, W) -> (grid, grid) float64."""
    rows, columns = (_blocks(n, grid).numpy() for n in t.shape)
    return rows @ t.astype(np.float64) @ columns.T


def guided_filter(guide: np.ndarray, picture: np.ndarray, window: int, eps: float) -> np.ndarray:
    """Smooths `picture` where `guide` is flat and keeps its edges (He, Sun, Tang 2010). Both (H, W)."""

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x.astype(np.float32), (window, window), borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(picture)
    slope = (mean(guide * picture) - middle * level) / (mean(guide * guide) - middle * middle + eps)
    return mean(slope) * guide + mean(level - slope * middle)


def _dark(y: np.ndarray, side: int) -> np.ndarray:
    window = np.ones((max(3, round(side * DARK_WINDOW)),) * 2, np.uint8)
    return cv2.erode(y.min(2), window)


def _maps(x: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns transmission as a (B, 1, H, W) map and A as (B, 1, 1, 1)."""
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
