"""Blur: convolution with a Gaussian of standard deviation sigma px, half-sample-symmetric borders.

Such a filter is diagonal in the 2-D DCT-II, so operator, Wiener filter and DDNM+ weights are elementwise, and
a batch of different sigmas costs no more than one. Equal to `scipy.ndimage.gaussian_filter(mode="reflect")`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from envs.degradations.common import QUANTISATION, dct2, idct2, truncated_normal
from envs.taxonomy import DegradationType

_TRUNCATE = 4.0  # the kernel reaches to 4 sigma, as SciPy's


def sample(rng: np.random.Generator, size: int, kind: DegradationType, mild: bool = False) -> dict:
    """sigma ~ N(2.5, 1) on [.8, 5] px for images of 128 px, in proportion for others.

    mild, as a part of a composite: N(1.5, .5) on [.8, 3].
    """
    unit = size / 128
    if mild:
        return {"sigma": truncated_normal(rng, 1.5 * unit, 0.5 * unit, max(0.4, 0.8 * unit), min(12.0, 3 * unit))}
    return {"sigma": truncated_normal(rng, 2.5 * unit, unit, max(0.4, 0.8 * unit), min(12.0, 5 * unit))}


def degrade(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """x: (B, 3, H, W); sigma: (B,)."""
    return idct2(spectrum(values["sigma"], *x.shape[-2:]) * dct2(x))


def project(
    x0: Tensor, y: Tensor, noise_level: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION
) -> Tensor:
    """Per frequency, the data with their noise against the prior (DDNM+).

    A prior is never wrong by more than photographs vary: its error has the variance P s^2 / (P + s^2) where
    their power is P. Without that, noise would enter wherever photographs are quiet; with all trust in the data
    (s large) the step becomes x0 + W (y - A x0), W the Wiener filter in place of the pseudo-inverse.
    """
    gain = spectrum(values["sigma"], *y.shape[-2:])
    power = photo_power(*y.shape[-2:]).to(y.device)
    variance = 1 / (1 / power + noise_level.reshape(-1, 1, 1, 1) ** -2)
    estimate = dct2(x0)
    weights = gain * variance / (gain.square() * variance + data_noise**2)
    return idct2(estimate + weights * (dct2(y) - gain * estimate))


def closed_form(y: Tensor, values: dict[str, Tensor], data_noise: Tensor | float = QUANTISATION) -> Tensor:
    """Wiener filter against the mean spectrum of photographs."""
    gain = spectrum(values["sigma"], *y.shape[-2:])
    power = photo_power(*y.shape[-2:]).to(y.device)
    return idct2(gain * power / (gain.square() * power + data_noise**2) * dct2(y))


def spectrum(sigma: Tensor, height: int, width: int) -> Tensor:
    """Eigenvalues of the blur in the DCT-II: (B, 1, height, width)."""
    rows, columns = (eigenvalues(sigma, n) for n in (height, width))
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def eigenvalues(sigma: Tensor, n: int) -> Tensor:
    """lambda_k = sum_j h_j cos(pi k j / n) for k < n: (B, n), in float64 until the last step."""
    sigma = sigma.double()
    reach = int(_TRUNCATE * float(sigma.max()) + 0.5)
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64, device=sigma.device)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]).square())
    kernel = kernel * (taps.abs() <= (_TRUNCATE * sigma[:, None] + 0.5).floor())
    kernel = kernel / kernel.sum(1, keepdim=True)
    frequencies = torch.arange(n, dtype=torch.float64, device=sigma.device)
    return (kernel @ torch.cos(math.pi / n * taps[:, None] * frequencies)).float()


def photo_power(height: int, width: int) -> Tensor:
    """Mean power of a photograph's DCT-II coefficients on [0, 1]: (height, width).

    c / f^3.2 with f in cycles per pixel, a least-squares fit to 320 crops of 37 photographs at 128 px.
    """
    f2 = (torch.arange(height)[:, None] / (2 * height)) ** 2 + (torch.arange(width) / (2 * width)) ** 2
    return 3.6e-5 / f2.clamp_min(1 / (4 * max(height, width) ** 2)) ** 1.6
