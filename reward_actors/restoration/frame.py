"""What lies around a photograph: a camera's scene goes on beyond the frame, where the operators mirror the picture.

Light from beyond has entered along the border, so a mirrored scene explains the border badly, and undoing a blur
spreads that over the picture. Here the photograph is extended first, by as much as the degradation reaches; what is put
there is smooth at first, and then agrees with the degradation, as the photograph does.
"""

from __future__ import annotations

import numpy as np
import torch

from envs.degradations import QUANTISATION, physics
from envs.degradations.common import as_batch, as_picture, stack
from envs.taxonomy import Degradation

FARTHEST = 96
"""Pixels by which a photograph is extended, at most."""
Window = tuple[slice, slice]
"""Rows and columns."""


def completed(photo: np.ndarray, degradation: Degradation) -> tuple[np.ndarray, Window]:
    """Repeats the borders of a photograph, uint8 (H, W, 3), by the pixels that its operator lacks.

    Returns:
        The larger photograph, and where in it the given one is.
    """
    pads = physics(degradation.type).padding(photo, degradation)
    return np.pad(photo, (*pads, (0, 0)), mode="edge"), _inside(photo, *(before for before, _ in pads))


def extended(photo: np.ndarray, degradation: Degradation, sigma_y: float | None = None) -> tuple[np.ndarray, Window]:
    """Extends a photograph, uint8 (H, W, 3), by what its scene may have been beyond the frame.

    Beyond each border it is mirrored in position and value, which keeps its slope, and fades to the border's own value.
    Then, `rounds_beyond` times, what lies there becomes what the operator makes of the closed form of all of it.

    Args:
        sigma_y: standard deviation of the noise of the photograph on [0, 1]; None is that of rounding.

    Returns:
        The larger photograph, and where in it the given one is; the same where the degradation has no reach.
    """
    operator = physics(degradation.type)
    reach = min(operator.reach(degradation), FARTHEST, *(side - 1 for side in photo.shape[:2]))
    window = _inside(photo, reach, reach)
    if not reach:
        return photo, window
    wide = photo.astype(np.float32)
    for axis in (0, 1):
        wide = np.moveaxis(_continued(np.moveaxis(wide, axis, 0), reach), 0, axis)
    y, values = as_batch(wide.clip(0, 255)), stack([degradation])
    known = torch.zeros(y.shape[-2:], dtype=torch.bool)
    known[window] = True
    noise = torch.full((1, 1, 1, 1), QUANTISATION if sigma_y is None else sigma_y)
    with torch.inference_mode():
        for _ in range(operator.rounds_beyond):
            estimate = operator.closed_form(y, values, noise).clamp(0, 1)
            y = torch.where(known, y, operator.degrade(estimate, values).clamp(0, 1))
    return (as_picture(y) * 255).round().astype(np.uint8), window


def _continued(lines: np.ndarray, reach: int) -> np.ndarray:
    """Continues (n, ...) by `reach` lines at both ends."""
    fading = np.cos(np.pi / 2 * np.arange(1, reach + 1) / (reach + 1)) ** 2
    fading = fading.reshape(-1, *(1,) * (lines.ndim - 1)).astype(np.float32)
    before, after = lines[0] - lines[1 : reach + 1], lines[-1] - lines[-2 : -reach - 2 : -1]
    return np.concatenate([(lines[0] + fading * before)[::-1], lines, lines[-1] + fading * after])


def _inside(photo: np.ndarray, top: int, left: int) -> Window:
    return slice(top, top + photo.shape[0]), slice(left, left + photo.shape[1])
