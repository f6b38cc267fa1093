"""What a restoration is worth."""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.metrics import structural_similarity

from configs import UserError
from envs.degradations import degrade
from envs.samples import Sample
from envs.taxonomy import Degradation

SCORERS = ("mse", "psnr", "ssim", "consistency")


def score(scorer: str, restored: np.ndarray, sample: Sample, degradation: Degradation) -> tuple[float, dict]:
    """The reward of one restoration.

    Args:
        scorer: `mse` (-MSE against the truth, Eq. 28), `psnr` (dB), `ssim`, or `consistency` (-MSE between
            the re-degraded restoration and the degraded picture, for samples without truth).
        restored: float32 (H, W, 3) in [0, 1].
        degradation: what was answered.

    Returns:
        The reward and its parts; mse and psnr are among them wherever the truth is known.

    Raises:
        UserError: the scorer needs a truth that the sample lacks, or does not exist.
    """
    check(scorer, sample)
    parts: dict[str, float] = {}
    if sample.clean is not None:
        parts["mse"] = mse(restored, sample.clean)
        parts["psnr"] = _decibel(parts["mse"])
    if scorer == "consistency":
        parts["consistency"] = consistency(restored, sample.degraded, degradation)
        return parts["consistency"], parts
    if scorer == "ssim":
        parts["ssim"] = ssim(restored, sample.clean)
    return (-parts["mse"] if scorer == "mse" else parts[scorer]), parts


def check(scorer: str, sample: Sample) -> None:
    """Raises UserError where `score` would, before anything is restored."""
    if scorer not in SCORERS:
        raise UserError(f"reward.scorer={scorer}: expected one of {', '.join(SCORERS)}")
    if sample.clean is None and scorer != "consistency":
        raise UserError(
            f"reward.scorer={scorer} needs the clean picture, {sample.sample_id} has none: use consistency"
        )


def mse(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error on [0, 1] of two (H, W, 3) pictures, uint8 or float."""
    return float(np.mean((_unit(picture) - _unit(truth)) ** 2, dtype=np.float64))


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio, dB; at most 100."""
    return _decibel(mse(picture, truth))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity with the Gaussian window of its paper, mean over channels."""
    return float(
        structural_similarity(
            _unit(picture), _unit(truth), channel_axis=2, data_range=1.0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
    )  # fmt: skip


def consistency(restored: np.ndarray, degraded: np.ndarray, degradation: Degradation) -> float:
    """-MSE between G(restored; D) and the degraded picture: 0 where the answer explains the data."""
    picture = torch.tensor(_unit(restored)).permute(2, 0, 1)[None]
    again = degrade(picture, [degradation])[0].permute(1, 2, 0).numpy()
    return -mse(again, degraded)


def _decibel(error: float) -> float:
    return -10 * math.log10(max(error, 1e-10))


def _unit(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / 255 if picture.dtype == np.uint8 else picture
