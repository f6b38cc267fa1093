"""The world's forward models and data-consistency operators, one file per physical phenomenon.

Each module has `sample`, `degrade`, `project` and `closed_form` for a batch of one type; the functions here take
mixed batches and split them by type. Images are float32 (B, 3, H, W) in [0, 1]; values are one `Degradation` a row.
Composites are chains of the modules (`composite`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from envs.degradations import blur, haze, low_light, low_resolution, reduced_blur
from envs.degradations.common import QUANTISATION, quantise
from envs.degradations.composite import Composite
from envs.taxonomy import Degradation, DegradationType, Taxonomy, parts_of

MODULES = {"haze": haze, "low_light": low_light, "blur": blur, "low_resolution": low_resolution}

__all__ = ["MODULES", "QUANTISATION", "closed_form", "degrade", "draw", "project", "quantise", "sample"]


def sample(taxonomy: Taxonomy, type_name: str, rng: np.random.Generator, size: int) -> Degradation:
    """Draws values of one type for images of `size` pixels a side, on the grid of `taxonomy`."""
    return taxonomy.degradation(type_name, draw(taxonomy[type_name], rng, size))


def draw(kind: DegradationType, rng: np.random.Generator, size: int) -> dict:
    """{key: value} of one type before snapping; the parts of a composite by their milder laws."""
    values = {}
    for part in kind.parts:
        values |= MODULES[part].sample(rng, size, kind, mild=len(kind.parts) > 1)
    return values


def degrade(x: Tensor, degradations: Sequence[Degradation], transmission: Tensor | None = None) -> Tensor:
    """I_d = G(I_c; D), quantised to 8 bits. x: (B, 3, H, W) in [0, 1], one degradation a row; the same shape back.

    transmission: (B, H, W) true maps, used where there is haze instead of the values of the key, which describe them.
    """
    return quantise(_by_type("degrade", degradations, x, transmission=transmission))


def project(x0: Tensor, y: Tensor, degradations: Sequence[Degradation], noise_level: Tensor) -> Tensor:
    """Data consistency: the range part from y, the null part from x0 (DDNM; weighted as in DDNM+).

    Args:
        x0: (B, 3, H, W), the prior's estimate of the clean image.
        y: (B, 3, H, W), the degraded image, 8-bit grid.
        degradations: one a row.
        noise_level: (B,) standard deviation of the error of x0, on the scale of [0, 1]. The larger it is, the more
            the data is trusted; the data's own noise is that of 8-bit quantisation.
    """
    return _by_type("project", degradations, x0, y, noise_level)


def closed_form(y: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """The estimate without a prior: haze formula, interval midpoint, Wiener filter, corrected bicubic; in [0, 1]."""
    return _by_type("closed_form", degradations, y).clamp(0, 1)


def _by_type(
    function: str, degradations: Sequence[Degradation], *tensors: Tensor, transmission: Tensor | None = None
) -> Tensor:
    if len(degradations) != len(tensors[0]):
        raise ValueError(f"{len(tensors[0])} images but {len(degradations)} degradations")
    result = torch.empty_like(tensors[0])
    for type_name in dict.fromkeys(d.type for d in degradations):
        rows = [i for i, d in enumerate(degradations) if d.type == type_name]
        values = _stack([degradations[i] for i in rows], tensors[0].device)
        if transmission is not None and "transmission" in values:
            values["transmission"] = transmission[rows].to(tensors[0])
        result[rows] = getattr(_physics(type_name), function)(*(t[rows] for t in tensors), values)
    return result


def _physics(type_name: str):
    """The module of a single type, the chain of a composite."""
    if type_name in MODULES:
        return MODULES[type_name]
    parts = parts_of(type_name)
    if parts[-2:] == ("blur", "low_resolution"):
        return Composite((*(MODULES[part] for part in parts[:-2]), reduced_blur))
    return Composite(tuple(MODULES[part] for part in parts))


def _stack(degradations: Sequence[Degradation], device) -> dict[str, Tensor]:
    """{key: float32 (B, *key shape)}."""
    return {
        key: torch.tensor([d[key] for d in degradations], dtype=torch.float32, device=device)
        for key, _ in degradations[0].values
    }
