"""What needs no network: the numbers of a picture whose type is told, by statistics and by spectral evidence.

It is what a policy must beat (Table 1). A key that counts is read off the replicated rows. A key in pixels whose
operator is diagonal in the DCT is read off the spectrum by maximum likelihood:

    log p(y | v) = -1/2 sum_k [log V_k + |Y_k|^2 / V_k],    V = h g_v^2 P + q^2

with Y the DCT of y minus its mean, g_v the operator's gains, P the mean power of photographs, q the noise of rounding
and h the height that fits: the mean of |Y|^2 / (g^2 P) where g^2 P > 20 q^2. Any other number is a ridge regression of
its logarithm on standardised statistics of the picture, with their squares or without. Both are fitted on samples with
their truth; what a regression looks like is chosen by how it reads photographs that were left out of its fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from scipy import stats

from envs.degradations import QUANTISATION, physics
from envs.degradations.common import dct2, photo_power, torch
from envs.taxonomy import Degradation, Key, Taxonomy
from envs.types import Sample

FITTED = 400
"""Samples of a type from which it learns, at most."""
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
FOLDS = 4
CORRECTED = 64
"""Samples on which the bias of spectral evidence is measured, at most."""
DARK = 7
"""Window of the dark channel, pixels."""

Reader = Callable[[np.ndarray], np.ndarray]
"""uint8 (H, W, 3) -> the numbers of one key, row by row."""


def read_without_network(train: Sequence[Sample], test: Sequence[Sample], taxonomy: Taxonomy) -> list[Degradation]:
    """Reads the values of every sample of `test`, its type being told, by what the samples of `train` teach."""
    by_type: dict[str, list[Sample]] = {}
    for sample in train:
        mine = by_type.setdefault(sample.degradation.type, [])
        if len(mine) < FITTED:
            mine.append(sample)
    readers = {kind: _fit(kind, samples, taxonomy) for kind, samples in by_type.items()}
    return [_read(sample, readers[sample.degradation.type], taxonomy) for sample in test]


def statistics(picture: np.ndarray) -> np.ndarray:
    """Computes some fifty statistics of a picture, uint8 (H, W, 3): levels, contrasts, dark channel, colours."""
    x = picture.astype(np.float64) / 255
    log = np.log(np.maximum(x, 0.5 / 255))
    spread = x.max(-1) - x.min(-1)
    dark = cv2.erode(x.min(-1), np.ones((DARK, DARK), np.uint8))
    ratios = log[..., (0, 2)] - log[..., 1:2]
    return np.array(
        [
            *np.percentile(x, (0, 0.1, 0.5, 1, 2, 5, 25, 50, 75, 95, 98, 99, 99.5, 99.9, 100)),
            *(x.mean(), x.std(), dark.mean(), *np.percentile(dark, (1, 99))),
            *np.percentile(spread, (5, 50, 95, 99)),
            *x.min((0, 1)),
            *x.max((0, 1)),
            *np.percentile(log, (1, 5, 25, 50, 75, 95, 99)),
            *(log.mean(), log.std(), float(stats.skew(log, axis=None)) if np.ptp(log) else 0.0),
            *(_gradient(x), _gradient(np.sqrt(x)), _gradient(log)),
            *np.percentile(ratios, (5, 50, 95), axis=(0, 1)).ravel(),
            (picture == 0).mean(),
        ]
    )


def replication(picture: np.ndarray) -> float:
    """Measures how often pixels of a picture, uint8 (H, W, 3), are repeated: 1 where no row or column is."""
    rows = 1 + (picture[1:] != picture[:-1]).any((1, 2)).sum()
    columns = 1 + (picture[:, 1:] != picture[:, :-1]).any((0, 2)).sum()
    return float(np.sqrt(picture.shape[0] / rows * picture.shape[1] / columns))


def spectral_evidence(picture: np.ndarray, grid: Sequence[float], gains: np.ndarray) -> float:
    """Returns the grid point under which the spectrum of a picture, uint8 (H, W, 3), is likeliest.

    gains: float64 (points, H, W), of the operator at each grid point.
    """
    x = torch.tensor(picture).permute(2, 0, 1).double() / 255
    power = dct2((x - x.mean((1, 2), keepdim=True)).float()).double().square().mean(0).numpy()  # over the colours
    prior, noise = photo_power(*picture.shape[:2]).double().numpy(), QUANTISATION**2
    best, winner = -np.inf, grid[0]
    for value, gain in zip(grid, gains, strict=True):
        signal = gain**2 * prior
        seen = signal > 20 * noise
        height = (power[seen] / signal[seen]).mean() if seen.any() else 1.0
        variance = height * signal + noise
        evidence = -(np.log(variance) + power / variance).sum()
        if evidence > best:
            best, winner = evidence, value
    return winner


def _fit(kind: str, samples: Sequence[Sample], taxonomy: Taxonomy) -> dict[str, Reader]:
    """{key: what reads it} of one type."""
    table = np.stack([statistics(sample.degraded) for sample in samples])
    readers = {}
    for key in taxonomy[kind].keys:
        truths = np.array([np.ravel(sample.degradation[key.name]) for sample in samples], float)
        if key.is_class:
            readers[key.name] = lambda picture: np.array([replication(picture)])
        elif key.in_pixels and key.size == 1 and len(taxonomy[kind].keys) == 1 and _is_diagonal(kind, key):
            readers[key.name] = _spectral(kind, key, samples, truths[:, 0])
        else:
            photos = [sample.photo_id for sample in samples]
            readers[key.name] = _ridge(table, truths, photos, positive=key.low > 0)
    return readers


def _read(sample: Sample, readers: dict[str, Reader], taxonomy: Taxonomy) -> Degradation:
    values = {}
    for name, reader in readers.items():
        key = taxonomy.keys[name]
        numbers = [key.snap(float(number)) for number in reader(sample.degraded)]
        values[name] = np.reshape(numbers, key.shape).tolist()
    return taxonomy.degradation(sample.degradation.type, values)


def _ridge(table: np.ndarray, truths: np.ndarray, photos: Sequence[str], positive: bool) -> Reader:
    """A ridge regression of (n, statistics) on (n, numbers), of logarithms where these are positive.

    Penalty and squares are those that read photographs best which were left out of the fit.
    """
    folds = np.unique(photos, return_inverse=True)[1] % FOLDS
    ways = [(squares, penalty) for squares in (False, True) for penalty in PENALTIES]
    errors = [_left_out(table, truths, folds, positive, *way) for way in ways]
    fitted = _regression(table, truths, positive, *ways[int(np.argmin(errors))])
    return lambda picture: fitted(statistics(picture)[None])[0]


def _left_out(table: np.ndarray, truths: np.ndarray, folds: np.ndarray, positive: bool, *way) -> float:
    """Mean error of each fold's truths by a regression on the others, relative to their size."""
    errors = []
    for fold in np.unique(folds) if len(np.unique(folds)) > 1 else ():
        left = folds == fold
        guesses = _regression(table[~left], truths[~left], positive, *way)(table[left])
        errors += (np.abs(guesses - truths[left]).sum(1) / (np.abs(truths[left]).sum(1) + 1e-9)).tolist()
    return float(np.mean(errors)) if errors else 0.0


def _regression(table: np.ndarray, truths: np.ndarray, positive: bool, squares: bool, penalty: float) -> Callable:
    mean, spread = table.mean(0), table.std(0) + 1e-9

    def features(rows: np.ndarray) -> np.ndarray:
        standard = np.clip((rows - mean) / spread, -5, 5)
        return np.concatenate([standard, standard**2 - 1], -1) if squares else standard

    targets, inputs = np.log(truths) if positive else truths, features(table)
    middle = targets.mean(0)
    weights = np.linalg.solve(inputs.T @ inputs + penalty * np.eye(inputs.shape[1]), inputs.T @ (targets - middle))

    def read(rows: np.ndarray) -> np.ndarray:
        answers = features(rows) @ weights + middle
        return np.exp(answers) if positive else answers

    return read


def _spectral(kind: str, key: Key, samples: Sequence[Sample], truths: np.ndarray) -> Reader:
    """Spectral evidence, times the median of truth over evidence on some samples."""

    def evidence(picture: np.ndarray) -> float:
        coarse = np.geomspace(key.low, key.high, 48)
        near = spectral_evidence(picture, coarse, _gains(kind, key.name, tuple(coarse), picture.shape[:2]))
        ratio = coarse[1] / coarse[0]
        fine = np.linspace(max(key.low, near / ratio), min(key.high, near * ratio), 17)
        return spectral_evidence(picture, fine, _gains(kind, key.name, tuple(fine), picture.shape[:2]))

    some = range(0, len(samples), max(1, len(samples) // CORRECTED))
    factor = float(np.median([truths[i] / evidence(samples[i].degraded) for i in some]))
    return lambda picture: np.array([factor * evidence(picture)])


@lru_cache(maxsize=64)
def _gains(kind: str, key: str, points: tuple[float, ...], shape: tuple[int, int]) -> np.ndarray:
    """float64 (points, H, W): what the operator makes of white noise, frequency by frequency."""
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0)).expand(1, 3, -1, -1)
    values = {key: torch.tensor(points, dtype=torch.float32)}
    made = physics(kind).degrade(noise.expand(len(points), -1, -1, -1), values)
    return (dct2(made) / dct2(noise))[:, 0].double().numpy()


def _is_diagonal(kind: str, key: Key) -> bool:
    """Whether the operator multiplies each frequency of the DCT by a gain, whatever the picture."""
    point = (float(np.sqrt(key.low * key.high)),)
    gain = torch.tensor(_gains(kind, key.name, point, (32, 32))).float()
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    made = physics(kind).degrade(ramp, {key.name: torch.tensor(point)})
    return bool((dct2(made) - gain * dct2(ramp)).abs().max() < 1e-3)


def _gradient(x: np.ndarray) -> float:
    return float(np.abs(np.diff(x, axis=0)).mean() + np.abs(np.diff(x, axis=1)).mean())
