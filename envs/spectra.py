"""Measures spectra: the cosine transform by radius, the Fourier transform by direction, the blocks of JPEG.

Planes are float32 (H, W) or (H, W, C) in grey levels; numbers are scaled so that most lie in [0, 1]. Part of the chart
of `envs.statistics`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from envs.degradations import quantisation_tables
from envs.degradations.common import dct_matrix, photo_power

QUALITIES = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95)
SIGMAS = np.geomspace(0.3, 12, 40)
RADII, ANGLES, BANDS = 48, 24, ((0.06, 0.16), (0.16, 0.3), (0.3, 0.5))
_FIRST = np.array([1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40])
"""The lowest frequencies of a block but its mean, as positions in it, row by row."""


def radial(luma: np.ndarray) -> np.ndarray:
    """Computes the log power of the cosine transform by radius, of luminance and colour differences: (RADII, 3)."""
    power = _dct(luma - luma.mean((0, 1))) ** 2
    return log_scaled(_by_radius(power), -6, 24)


def evidence(luminance: np.ndarray) -> np.ndarray:
    r"""Computes how likely each sigma of `SIGMAS` makes the spectrum of a photograph, for three levels of noise.

    .. math:: \log p = -\tfrac12 \sum_f [\log V + |Y|^2 / V], \qquad V = h g_\sigma^2 P + q^2

    h is the mean of :math:`|Y|^2 / (g^2 P)` where the photograph is well above the noise. Beside each curve, where its
    top lies.
    """
    power = _by_radius(_dct((luminance - luminance.mean())[..., None]) ** 2)[:, 0]
    counts, f2 = _radii(*luminance.shape)[1:]
    expected = _by_radius(photo_power(*luminance.shape).numpy()[..., None])[:, 0] * 255**2
    blurred, parts = np.exp(-((SIGMAS[:, None] * 2 * np.pi) ** 2) * f2) * expected, []
    for noise in (0.3, 1.5, 4.0):
        q2 = noise**2
        loud = blurred > 20 * q2
        loud[:, :4] = True
        height = (power / np.where(loud, blurred, np.inf)) @ counts / (loud @ counts)
        variance = height[:, None] * blurred + q2
        logs = -0.5 * ((np.log(variance) + power / variance) @ counts)
        top = int(logs.argmax())
        parts += [np.exp((logs - logs[top]) / 60), np.exp((logs - logs[top]) / 600)]
        parts.append(np.array([top / len(SIGMAS), log_scaled(height[top], -8, 8)]))
    return np.concatenate(parts).astype(np.float32)


def falloff(luminance: np.ndarray) -> float:
    """Finds below which frequency four fifths of the power of the gradient lie: a share of the highest, 0 to 1."""
    power = _by_radius(_dct((luminance - luminance.mean())[..., None]) ** 2)[:, 0]
    counts, f2 = _radii(*luminance.shape)[1:]
    below = np.cumsum(power * counts * f2)
    return (int(np.searchsorted(below, 0.8 * below[-1])) + 1) / RADII


def angular(luminance: np.ndarray) -> np.ndarray:
    """Computes the log power of the windowed Fourier transform by direction, in three bands, less each band's mean."""
    centred = luminance - luminance.mean()
    power = np.abs(np.fft.fft2(centred * _window(*luminance.shape))) ** 2
    sectors = _sectors(*luminance.shape)
    size = ANGLES * len(BANDS)
    total = np.bincount(sectors.ravel(), power.ravel(), size + 1)[:size]
    counts = np.bincount(sectors.ravel(), minlength=size + 1)[:size]
    logs = np.log2(total / np.maximum(counts, 1) + 1e-3).reshape(len(BANDS), ANGLES)
    mean = logs.mean(1, keepdims=True)
    return np.concatenate([((logs - mean) / 12 + 0.5).ravel(), ((mean + 4) / 28).ravel()]).astype(np.float32)


def blocks(luma: np.ndarray) -> np.ndarray:
    """Measures the coefficients of 8 x 8 blocks: their size, how many round to 0, how well each JPEG quality fits."""
    height, width = (side - side % 8 for side in luma.shape[:2])
    tiles = (luma[:height, :width] - 128).reshape(height // 8, 8, width // 8, 8, 3).transpose(4, 0, 2, 1, 3)
    matrix = dct_matrix(8).numpy()
    size = np.abs(matrix @ np.ascontiguousarray(tiles) @ matrix.T).reshape(3, -1, 64)
    first = size[0][:, _FIRST]
    fits = []
    for quality in QUALITIES:
        steps = quantisation_tables(quality)[0].reshape(64)[_FIRST]
        live = first > 0.6 * steps
        phase = np.cos(np.float32(2 * np.pi) * first / steps)
        fits.append((phase * live).sum() / live.sum() / 2 + 0.5 if live.sum() > 30 else 0.0)
    by_quality = np.repeat(np.array(fits)[:, None], 3, 1)
    return np.concatenate([log_scaled(size.mean(1).T, -5, 9), (size < 0.7).mean(1).T, by_quality])


def log_scaled(values, low: float, high: float):
    """Computes log2, scaled so that low .. high is 0 .. 1."""
    return (np.log2(np.maximum(values, 2.0**low)) - low) / (high - low)


def _dct(planes: np.ndarray) -> np.ndarray:
    rows, columns = (dct_matrix(n).numpy() for n in planes.shape[:2])
    return np.stack([rows @ planes[..., c] @ columns.T for c in range(planes.shape[-1])], -1)


@lru_cache(maxsize=16)
def _radii(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bin of each frequency, how many each bin has, mean squared frequency of each): cycles per pixel, no corners."""
    f2 = (np.arange(height)[:, None] / (2 * height)) ** 2 + (np.arange(width) / (2 * width)) ** 2
    bins = np.minimum((np.sqrt(f2) * 2 * RADII).astype(int), RADII)
    bins[0, 0] = RADII
    counts = np.bincount(bins.ravel(), minlength=RADII + 1)[:RADII]
    mean = np.bincount(bins.ravel(), f2.ravel(), RADII + 1)[:RADII] / np.maximum(counts, 1)
    return bins, counts, np.maximum(mean, 1e-6)


def _by_radius(power: np.ndarray) -> np.ndarray:
    """Mean power of each radius: (H, W, C) -> (RADII, C)."""
    bins, counts, _ = _radii(*power.shape[:2])
    sums = [np.bincount(bins.ravel(), power[..., c].ravel(), RADII + 1)[:RADII] for c in range(power.shape[-1])]
    return np.stack(sums, -1) / np.maximum(counts, 1)[:, None]


@lru_cache(maxsize=16)
def _sectors(height: int, width: int) -> np.ndarray:
    """The band and direction of each Fourier frequency; frequencies of no band come last."""
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius, angle = np.hypot(fy, fx), np.arctan2(fy, fx) % np.pi
    direction = np.minimum((angle / np.pi * ANGLES).astype(int), ANGLES - 1)
    sectors = np.full(radius.shape, ANGLES * len(BANDS))
    for band, (low, high) in enumerate(BANDS):
        inside = (radius >= low) & (radius < high)
        sectors[inside] = band * ANGLES + direction[inside]
    return sectors


@lru_cache(maxsize=16)
def _window(height: int, width: int) -> np.ndarray:
    return np.outer(np.hanning(height), np.hanning(width))
