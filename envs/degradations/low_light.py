"""Low light: y = Q(clip(g M x^gamma)): linearise, camera matrix, digital gain, 8-bit quantisation.

M = camera . rgb2xyz with each row divided by its sum, so that white stays white; without the camera key, identity.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from envs.degradations.common import QUANTISATION, truncated_normal
from envs.taxonomy import DegradationType

CAMERAS = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.613, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.838, -0.263, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.097, 0.1581, 0.5181]],
    ]
)
"""Four public XYZ-to-camera matrices; training draws convex mixtures of them, so that the key is continuous."""

_RGB_TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def sample(rng: np.random.Generator, size: int, kind: DegradationType, mild: bool = False) -> dict:
    """gamma ~ U(2, 3.5); gain ~ N(.1, .08) on [.05, .10]; camera a convex mixture of `CAMERAS`.

    mild, as a part of a composite: gamma ~ U(1.5, 2.5), gain ~ U(.15, .5).
    """
    if mild:
        values = {"gamma": rng.uniform(1.5, 2.5), "gain": rng.uniform(0.15, 0.5)}
    else:
        values = {"gamma": rng.uniform(2.0, 3.5), "gain": truncated_normal(rng, 0.10, 0.08, 0.05, 0.10)}
    if any(key.name == "camera" for key in kind.keys):
        values["camera"] = np.tensordot(rng.dirichlet(np.ones(len(CAMERAS))), CAMERAS, axes=1).tolist()
    return values


def degrade(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """x: (B, 3, H, W); gamma, gain: (B,); camera: (B, 3, 3) if the world has it."""
    gamma, gain = (values[key].reshape(-1, 1, 1, 1) for key in ("gamma", "gain"))
    return gain * _mix(_matrix(values), x.clamp_min(0) ** gamma)


def project(
    x0: Tensor, y: Tensor, noise_level: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION
) -> Tensor:
    """Clamps x0 into {x : Q(clip(g M x^gamma)) = y}: in camera space each channel has an interval around y / g."""
    gamma = values["gamma"].reshape(-1, 1, 1, 1)
    low, high = _interval(y, values, data_noise)
    linear = x0.clamp(0, 1) ** gamma
    matrix = _matrix(values)
    return _unmix(matrix, _mix(matrix, linear).clamp(low, high)).clamp(0, 1) ** (1 / gamma)


def closed_form(y: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION) -> Tensor:
    """The midpoint of the interval, taken where the picture is shown (after the inverse gamma).

    With a camera, what reads 0 is taken to be little more than 0, though it may have been negative.
    """
    gamma = values["gamma"].reshape(-1, 1, 1, 1)
    matrix = _matrix(values)
    ends = [_unmix(matrix, end.clamp_min(0)).clamp(0, 1) ** (1 / gamma) for end in _interval(y, values, data_noise)]
    return sum(ends) / 2


def input_noise(y: Tensor, values: dict[str, Tensor], data_noise: Tensor | float) -> Tensor:
    """(B, 1, 1, 1): what noise of y leaves unknown of x, the standard deviation within the intervals."""
    gamma = values["gamma"].reshape(-1, 1, 1, 1)
    low, high = (end.clamp(0, 1) ** (1 / gamma) for end in _interval(y, values, data_noise))
    return (high - low).square().mean((1, 2, 3), keepdim=True).sqrt() / math.sqrt(12)


def _interval(y: Tensor, values: dict[str, Tensor], data_noise: Tensor | float) -> tuple[Tensor, Tensor]:
    """All camera-space values that quantise to y; open ends reach to 0 and to the largest value the scene can have.

    The interval is as wide as uniform noise of the standard deviation `data_noise`: one grey level for quantisation.
    """
    gain = values["gain"].reshape(-1, 1, 1, 1)
    step = data_noise * math.sqrt(3)
    low, high = (y - step) / gain, (y + step) / gain
    if "camera" not in values:  # every channel of x^gamma lies in [0, 1]
        return low.clamp(0, 1), high.clamp(0, 1)
    return torch.where(y <= step, torch.full_like(low, -2.0), low), torch.where(
        y >= 1, torch.full_like(high, 4.0), high
    )


def _matrix(values: dict[str, Tensor]) -> Tensor | None:
    if "camera" not in values:
        return None
    matrix = values["camera"] @ _RGB_TO_XYZ.to(values["camera"])
    return matrix / matrix.sum(-1, keepdim=True)


def _mix(matrix: Tensor | None, x: Tensor) -> Tensor:
    return x if matrix is None else torch.einsum("bij,bjhw->bihw", matrix, x)


def _unmix(matrix: Tensor | None, x: Tensor) -> Tensor:
    return x if matrix is None else _mix(torch.linalg.inv(matrix), x)
