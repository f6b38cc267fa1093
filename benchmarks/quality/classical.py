"""Classical restoration at given parameters: what each type can do without any learned prior (Table 2's yardstick).

haze: the haze formula. low light: the midpoint of the interval each pixel may lie in, and total variation clipped
to that interval. blur: the Wiener filter. low resolution: the pseudo-inverse, and bicubic enlargement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle

from envs.degradations import closed_form, low_resolution, project
from envs.taxonomy import Degradation

TV_WEIGHT = 0.05
"""Best of .003 .. .12 on photographs that no evaluation shows (val split of a 26,000-sample corpus)."""

Method = Callable[[np.ndarray, Degradation], np.ndarray]


def estimate(degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
    """The closed form of the type: haze formula, interval midpoint, Wiener filter, bicubic made true to the data.

    degraded: uint8 (H, W, 3) -> float32 (H, W, 3) in [0, 1]; the same holds for every function here.
    """
    return _picture(closed_form(_batch(degraded), [degradation]))


def total_variation(degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
    """Chambolle's denoising of the midpoint, clamped to the pictures that would give these data."""
    smooth = denoise_tv_chambolle(estimate(degraded, degradation), weight=TV_WEIGHT, channel_axis=2)
    x0 = torch.tensor(smooth, dtype=torch.float32).permute(2, 0, 1)[None]
    return _picture(project(x0, _batch(degraded), [degradation], torch.ones(1)))


def bicubic(degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
    """The small picture behind the replicated pixels, enlarged by bicubic interpolation."""
    height, width = degraded.shape[:2]
    small = cells(degraded, *(max(1, round(n / degradation["scale"])) for n in (height, width)))
    return enlarge(small, height, width)


def pseudo_inverse(degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
    """A+ y of the reduction."""
    values = {"scale": torch.tensor([degradation["scale"]])}
    return _picture(low_resolution.pseudo_inverse(_batch(degraded), values).clamp(0, 1))


METHODS: Mapping[str, Mapping[str, Method]] = {
    "haze": {"haze formula": estimate},
    "low_light": {"TV in the interval": total_variation, "interval midpoint": estimate},
    "blur": {"Wiener filter": estimate},
    "low_resolution": {"bicubic": bicubic, "pseudo-inverse": pseudo_inverse},
}
"""{type: {name: method}}, the usually best one first."""


def methods(kind: str) -> Mapping[str, Method]:
    """The methods of a type; composites have the closed form of their chain."""
    return METHODS.get(kind, {"closed form": estimate})


def restore(degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
    """By the first method of the type."""
    return next(iter(methods(degradation.type).values()))(degraded, degradation)


def cells(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """One pixel of each replicated cell: (rows, columns, 3)."""
    picks = (-(-np.arange(count) * n // count) for count, n in zip((rows, columns), picture.shape[:2], strict=True))
    return picture[np.ix_(*picks)]


def enlarge(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 -> float32 (height, width, 3) in [0, 1], bicubic."""
    unit = small.astype(np.float32) / 255
    return cv2.resize(unit, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _batch(picture: np.ndarray) -> torch.Tensor:
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 255


def _picture(batch: torch.Tensor) -> np.ndarray:
    return batch[0].clamp(0, 1).permute(1, 2, 0).numpy()
