"""Haze: the atmospheric scattering equation (Eq. 3), y = t x + A (1 - t)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from envs.degradations.common import truncated_normal, weight
from envs.taxonomy import DegradationType


def sample(rng: np.random.Generator, size: int, kind: DegradationType) -> dict:
    """A ~ N(.65, .15) on [.35, 1]; t ~ N(.42, .15) on [.12, .9]; a grid varies smoothly from bottom to top."""
    light = truncated_normal(rng, 0.65, 0.15, 0.35, 1.0)
    mean = truncated_normal(rng, 0.42, 0.15, 0.12, 0.9)
    shape = kind.key("transmission").shape
    if not shape:
        return {"atmospheric_light": light, "transmission": mean}
    depth = np.linspace(rng.uniform(1.0, 2.0), rng.uniform(0.3, 1.0), shape[0])[:, None]
    depth = depth + rng.normal(0, 0.1, shape)  # relative depth: far at the top, near at the bottom, a little rough
    grid = np.clip(np.exp(np.log(mean) * depth / depth.mean()), 0.05, 1.0)
    return {"atmospheric_light": light, "transmission": grid.tolist()}


def degrade(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """x: (B, 3, H, W); atmospheric_light: (B,); transmission: (B,) or (B, g, g)."""
    t, light = _maps(x, values)
    return t * x + light * (1 - t)


def project(x0: Tensor, y: Tensor, noise_level: Tensor, values: dict[str, Tensor]) -> Tensor:
    """There is no null space while t > 0: per pixel, the quantised data against the prior."""
    t, light = _maps(x0, values)
    return x0 + weight(t, noise_level) * (y - light * (1 - t) - t * x0)


def closed_form(y: Tensor, values: dict[str, Tensor]) -> Tensor:
    t, light = _maps(y, values)
    return (y - light * (1 - t)) / t


def _maps(x: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Transmission as a (B, 1, H, W) map (a grid is interpolated bilinearly) and A as (B, 1, 1, 1)."""
    t = values["transmission"]
    t = t.reshape(len(t), 1, *(t.shape[1:] or (1, 1)))
    t = F.interpolate(t, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return t, values["atmospheric_light"].reshape(-1, 1, 1, 1)
