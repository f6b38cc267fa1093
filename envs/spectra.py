"""Measures spectra: the power by radius, which blur or motion explains it best, its direction, the blocks of JPEG.

Planes are float32 (H, W) or (H, W, C) in grey levels. Part of the chart of `envs.statistics`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from envs.degradations import quantisation_tables
from envs.degradations.common import dct_matrix, photo_power

QUALITIES = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95)
SIGMAS, LENGTHS = np.geomspace(0.3, 12, 60), np.geomspace(2, 40, 24)
RINGS = 32
COARSE, SECTORS = 16, 18
"""Rings and directions of what depends on direction."""
_FIRST = np.array([1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40])
"""The lowest frequencies of a block but its mean, as positions in it, row by row."""


def radial(planes: np.ndarray) -> np.ndarray:
    """Computes log2 of the power of the cosine transform in 16 rings of equal width: (16, C)."""
    power = _by_ring(_dct(planes - planes.mean((0, 1))) ** 2)
    return np.log2(power.reshape(16, -1, power.shape[-1]).mean(1) + 1e-2)


def blur_evidence(luminance: np.ndarray, noise: float) -> np.ndarray:
    r"""Finds the Gaussian blur that explains the spectrum best: 15 numbers.

    .. math:: \log p = -\tfrac12 \sum_f [\log V + |Y|^2 / V], \qquad V = h g_\sigma^2 P + q^2

    h is the mean of :math:`|Y|^2 / (g^2 P)` where the photograph is well above the noise q. For q of `noise`, and of 1
    and 2 grey levels at least, as photographs stray from their mean spectrum: log2 of the best sigma, where a quarter
    and three quarters of the evidence lie below, log2 of h, and the evidence against no blur (see `_odds`).
    """
    power = _by_ring(_dct((luminance - luminance.mean())[..., None]) ** 2)[:, 0]
    counts, f2 = _rings(*luminance.shape)[1:]
    expected = _by_ring(photo_power(*luminance.shape).numpy()[..., None])[:, 0] * 255**2
    blurred = np.exp(-((SIGMAS[:, None] * 2 * np.pi) ** 2) * f2) * expected
    numbers = []
    for level in (noise, max(noise, 1), max(noise, 2)):
        logs, height = _likelihood(power, counts, blurred, level)
        top, share = int(logs.argmax()), np.cumsum(np.exp((logs - logs.max()) / 30))
        low, high = (SIGMAS[np.searchsorted(share, part * share[-1])] for part in (0.25, 0.75))
        numbers += [*np.log2([SIGMAS[top], low, high]), np.log2(height[top] + 1e-4), _odds(logs[top] - logs[0])]
    return np.array(numbers)


def motion_evidence(luminance: np.ndarray, noise: float) -> np.ndarray:
    """Finds the motion that explains the windowed spectrum best: 8 numbers.

    For q of `noise`, 2 and 1 grey levels at least: log2 of the length, cosine and sine of twice the angle, and the
    evidence against a Gaussian blur, or none (see `_odds`).
    """
    bins, counts, lines, rounds = _sectors(*luminance.shape)
    window = _window(*luminance.shape)
    transform = np.fft.rfft2((luminance - luminance.mean()) * window)
    power = np.bincount(bins.ravel(), (np.abs(transform) ** 2).ravel(), len(counts) + 1)[:-1]
    power = (power / np.maximum(counts, 1) / (window**2).sum()).astype(np.float32)
    numbers = []
    for level in (max(noise, 2), max(noise, 1)):
        logs = _likelihood(power, counts, lines, level)[0]
        others = _likelihood(power, counts, rounds, level)[0]
        share = np.exp((logs - logs.max()) / 10).reshape(len(LENGTHS), SECTORS)
        share /= share.sum()
        angles = 2 * np.pi * (np.arange(SECTORS) + 0.5) / SECTORS
        turned = share.sum(0) @ np.stack([np.cos(angles), np.sin(angles)], 1)
        numbers += [share.sum(1) @ np.log2(LENGTHS), *turned, _odds(logs.max() - others.max())]
    return np.array(numbers)


def falloff(luminance: np.ndarray) -> float:
    """Finds below which frequency four fifths of the power of the gradient lie: a share of the highest, 0 to 1."""
    power = _by_ring(_dct((luminance - luminance.mean())[..., None]) ** 2)[:, 0]
    counts, f2 = _rings(*luminance.shape)[1:]
    below = np.cumsum(power * counts * f2)
    return (int(np.searchsorted(below, 0.8 * below[-1])) + 1) / RINGS


def angular(luminance: np.ndarray) -> np.ndarray:
    """Describes how the power of the Fourier transform depends on direction, in three bands: 12 numbers.

    Of log2 of the power by direction: its second harmonic (cosine, sine), the least and the largest less the mean.
    """
    bins, counts, *_ = _sectors(*luminance.shape)
    transform = np.fft.rfft2((luminance - luminance.mean()) * _window(*luminance.shape))
    total = np.bincount(bins.ravel(), (np.abs(transform) ** 2).ravel(), len(counts) + 1)[:-1].reshape(COARSE, SECTORS)
    count, numbers = counts.reshape(COARSE, SECTORS), []
    for low, high in ((2, 5), (5, 9), (9, COARSE)):
        logs = np.log2(total[low:high].sum(0) / np.maximum(count[low:high].sum(0), 1) + 1e-1)
        harmonics = np.fft.rfft(logs - logs.mean()) / SECTORS
        low_high = np.array([logs.min(), logs.max()]) - logs.mean()
        numbers += [harmonics[1].real, harmonics[1].imag, *low_high]
    return np.array(numbers)


def blocks(planes: np.ndarray) -> np.ndarray:
    """Measures the coefficients of 8 x 8 blocks: 22 numbers.

    How many round to 0, by diagonal, of luminance (7) and colour differences (2 x 2); how well the tables of JPEG
    qualities fit: the best quality, how well it fits, how well the best below 75 and above fit, and those of every
    fourth; how much larger steps across block borders are, down and along.
    """
    height, width = (side - side % 8 for side in planes.shape[:2])
    tiles = (planes[:height, :width] - 128).reshape(height // 8, 8, width // 8, 8, -1).transpose(4, 0, 2, 1, 3)
    matrix = dct_matrix(8).numpy()
    size = np.abs(matrix @ np.ascontiguousarray(tiles) @ matrix.T).reshape(len(tiles), -1, 64)
    empty, diagonal = (size < 0.7).mean(1), np.add.outer(np.arange(8), np.arange(8)).ravel()
    zeros = [empty[0][(diagonal >= low) & (diagonal < low + 2)].mean() for low in range(1, 14, 2)]
    zeros += [empty[c][part].mean() for c in range(1, len(tiles)) for part in (diagonal == 1, diagonal > 7)]
    first, fits = size[0][:, _FIRST], []
    for quality in QUALITIES:
        steps = quantisation_tables(quality)[0].reshape(64)[_FIRST]
        live = first > 0.6 * steps
        phase = np.cos(np.float32(2 * np.pi) * first / steps)
        fits.append((phase * live).sum() / live.sum() if live.sum() > 30 else 0.0)
    fits = np.array(fits)
    below = np.array(QUALITIES) < 75
    best = [QUALITIES[fits.argmax()] / 100, fits.max(), fits[below].max(), fits[~below].max()]
    return np.concatenate([zeros, best, fits[::4], [_border(planes[..., 0]), _border(planes[..., 0].T)]])


def _border(plane: np.ndarray) -> float:
    """log2 of the mean step across borders of blocks over that beside them."""
    steps = np.abs(np.diff(plane, axis=0)).mean(1)
    across = np.arange(len(steps)) % 8 == 7
    return float(np.log2((steps[across].mean() + 0.1) / (steps[~across].mean() + 0.1))) if across.any() else 0.0


def _likelihood(power: np.ndarray, counts: np.ndarray, shapes: np.ndarray, noise: float) -> tuple[np.ndarray, ...]:
    """(log-likelihood, height) of each shape of a spectrum, (shapes, bins), for the mean power of bins."""
    q2 = max(noise, 0.3) ** 2
    shapes, power, counts = (np.asarray(each, np.float32) for each in (shapes, power, counts))
    loud = shapes > 20 * q2
    loud[:, shapes[0] >= np.partition(shapes[0], -6)[-6]] = True
    height = (power / np.maximum(shapes, 1e-6) * loud) @ counts / np.maximum(loud @ counts, 1)
    variance = height[:, None] * shapes + np.float32(q2)
    return -0.5 * ((np.log(variance) + power / variance) @ counts), height


def _odds(difference: float) -> float:
    """A log-likelihood ratio, so that a factor of it shows as well among small ones as among large ones."""
    return float(np.arcsinh(difference / 10))


def _dct(planes: np.ndarray) -> np.ndarray:
    rows, columns = (dct_matrix(n).numpy() for n in planes.shape[:2])
    return np.stack([rows @ planes[..., c] @ columns.T for c in range(planes.shape[-1])], -1)


@lru_cache(maxsize=16)
def _rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ring of each frequency, how many each has, mean squared frequency of each): cycles per pixel, no corners."""
    f2 = (np.arange(height)[:, None] / (2 * height)) ** 2 + (np.arange(width) / (2 * width)) ** 2
    bins = np.minimum((np.sqrt(f2) * 2 * RINGS).astype(int), RINGS)
    bins[0, 0] = RINGS
    counts = np.bincount(bins.ravel(), minlength=RINGS + 1)[:RINGS]
    mean = np.bincount(bins.ravel(), f2.ravel(), RINGS + 1)[:RINGS] / np.maximum(counts, 1)
    return bins, counts, np.maximum(mean, 1e-6)


def _by_ring(power: np.ndarray) -> np.ndarray:
    """Mean power of each ring: (H, W, C) -> (RINGS, C)."""
    bins, counts, _ = _rings(*power.shape[:2])
    sums = [np.bincount(bins.ravel(), power[..., c].ravel(), RINGS + 1)[:RINGS] for c in range(power.shape[-1])]
    return np.stack(sums, -1) / np.maximum(counts, 1)[:, None]


@lru_cache(maxsize=16)
def _sectors(height: int, width: int) -> tuple[np.ndarray, ...]:
    """(bin of each frequency of rfft2, how many each has, and a photograph's power in each behind lines, lengths times
    angles, and behind Gaussians): bins are rings times sectors, one more for what is in no ring."""
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    radius, angle = np.hypot(fy, fx), np.arctan2(-fy, fx) % np.pi
    ring = (radius * 2 * COARSE).astype(int)
    bins = ring * SECTORS + np.minimum((angle / np.pi * SECTORS).astype(int), SECTORS - 1)
    bins[(ring >= COARSE) | (ring < 1)] = COARSE * SECTORS
    counts = np.bincount(bins.ravel(), minlength=COARSE * SECTORS + 1)[:-1].astype(np.float32)
    inner = (np.arange(4) + 0.5) / 4
    rings = ((np.arange(COARSE)[:, None] + inner) / (2 * COARSE))[:, None, :, None]
    turned = ((np.arange(SECTORS)[:, None] + inner) * np.pi / SECTORS)[None, :, None, :]
    expected = 3.6e-5 / rings**3.2 * 255**2

    def mean(factor: np.ndarray) -> np.ndarray:
        return np.broadcast_to(factor * expected, (COARSE, SECTORS, 4, 4)).mean((2, 3)).ravel().astype(np.float32)

    centres = (np.arange(SECTORS) + 0.5) * np.pi / SECTORS
    lines = [mean(np.sinc(length * rings * np.cos(turned - phi)) ** 2) for length in LENGTHS for phi in centres]
    rounds = [mean(np.exp(-((2 * np.pi * sigma * rings) ** 2))) for sigma in SIGMAS[::3]]
    return bins, counts, np.stack(lines), np.stack(rounds)


@lru_cache(maxsize=16)
def _window(height: int, width: int) -> np.ndarray:
    return np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
