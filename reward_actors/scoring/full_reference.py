"""Measures of a restoration: against the truth, against the degraded picture, and on its own. Pure functions."""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.metrics import structural_similarity

from envs.degradations import degrade
from envs.taxonomy import Degradation

PLAUSIBLE = (0.15, 0.75)
"""Mean luminance of photographs: the band that `brightness` leaves alone."""
DATA_EXPLAINED = 55.0
"""Agreement with the data, dB, beyond which nothing is left but 8-bit rounding (59 dB)."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CLIPPED = 0.5 / 255


def mse(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error on [0, 1] of two (H, W, 3) pictures, uint8 or float."""
    return float(np.mean((unit(picture) - unit(truth)) ** 2, dtype=np.float64))


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio, dB; at most 100."""
    return decibel(mse(picture, truth))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity with the Gaussian window of its paper, mean over channels."""
    return float(
        structural_similarity(
            unit(picture), unit(truth), channel_axis=2, data_range=1.0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
    )  # fmt: skip


def consistency(restored: np.ndarray, degraded: np.ndarray, degradation: Degradation | None) -> float:
    """-MSE between G(restored; D) and the degraded picture: 0 where the answer explains the data. None: G changes
    nothing."""
    if degradation is None:
        return -mse(unit(restored), degraded)
    picture = torch.tensor(unit(restored)).permute(2, 0, 1)[None]
    degraded_again = degrade(picture, [degradation])[0].permute(1, 2, 0).numpy()
    return -mse(degraded_again, degraded)


def consistency_db(restored: np.ndarray, degraded: np.ndarray, degradation: Degradation | None) -> float:
    """PSNR between G(restored; D) and the degraded picture, dB, at most `DATA_EXPLAINED`."""
    return min(decibel(-consistency(restored, degraded, degradation)), DATA_EXPLAINED)


def clipped(restored: np.ndarray) -> float:
    """Share of the values (pixels x channels) that lie on the ends of [0, 1], where restoring was cut off."""
    values = unit(restored)
    return float(np.mean((values < _CLIPPED) | (values > 1 - _CLIPPED)))


def implausible_brightness(restored: np.ndarray) -> float:
    """How far the mean luminance lies outside `PLAUSIBLE`: 0 inside."""
    mean = float((unit(restored) @ _LUMA).mean(dtype=np.float64))
    return max(PLAUSIBLE[0] - mean, mean - PLAUSIBLE[1], 0.0)


def decibel(error: float) -> float:
    """PSNR of a mean squared error on [0, 1]; at most 100."""
    return -10 * math.log10(max(error, 1e-10))


def unit(picture: np.ndarray) -> np.ndarray:
    """float32 on [0, 1] of uint8 or float."""
    return picture.astype(np.float32) / 255 if picture.dtype == np.uint8 else picture
