"""What the degradations share: 8-bit quantisation, truncated normal draws, the cosine transform."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

QUANTISATION = 1 / (255 * math.sqrt(12))
"""Standard deviation of 8-bit rounding on [0, 1]."""


def quantise(x: Tensor) -> Tensor:
    """Clips to [0, 1] and rounds to multiples of 1/255."""
    return (x.clamp(0, 1) * 255).round() / 255


def truncated_normal(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """One draw of N(mean, sd) conditioned on [low, high], by rejection."""
    while True:
        draw = rng.normal(mean, sd)
        if low <= draw <= high:
            return float(draw)


@lru_cache(maxsize=32)
def dct_matrix(n: int, device: str = "cpu") -> Tensor:
    """The orthonormal DCT-II as an (n, n) float32 matrix: rows are frequencies."""
    k, i = np.mgrid[:n, :n]
    matrix = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return torch.tensor(matrix, dtype=torch.float32, device=device)


def dct2(x: Tensor) -> Tensor:
    """2-D DCT-II of the last two dimensions."""
    rows, columns = (dct_matrix(n, str(x.device)) for n in x.shape[-2:])
    return rows @ x @ columns.T


def idct2(x: Tensor) -> Tensor:
    """Inverse of `dct2`."""
    rows, columns = (dct_matrix(n, str(x.device)) for n in x.shape[-2:])
    return rows.T @ x @ columns


def weight(gain: Tensor, noise_level: Tensor, data_noise: Tensor | float = QUANTISATION) -> Tensor:
    """Gain of the proximal step of y = gain x + noise: gain s^2 / (gain^2 s^2 + sigma_y^2) (DDNM+).

    gain: (B, ...); noise_level s: (B,), standard deviation of the prior's estimate; data_noise sigma_y: a number or
    (B, 1, ...). Same shape as gain.
    """
    s2 = noise_level.square().reshape(-1, *[1] * (gain.dim() - 1))
    return gain * s2 / (gain.square() * s2 + data_noise**2)
