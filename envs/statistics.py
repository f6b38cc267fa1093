"""Paints what classical methods measure of a picture as a picture, so that a policy can read it: the view `statistics`.

A ridge regression on thirty such numbers reads haze and low light better than a small network that sees pixels alone
(docs/learning.md). Each number is one grey cell of a 32 x 32 chart, scaled to [0, 1] by fixed ranges; where it is of
one channel (red, green, blue, or luminance and two colour differences), so is the colour of its cell.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

CELLS = 32
"""A side of the chart."""
PERCENTILES = (0, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9, 100)
QUALITIES = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95)
SIGMAS = np.geomspace(0.3, 12, 40)
RADII, ANGLES, BANDS = 48, 24, ((0.06, 0.16), (0.16, 0.3), (0.3, 0.5))
_FIRST = np.array([1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40])
"""The lowest frequencies of a block but its mean, as positions in it, row by row."""
_LUMINANCE_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Of the JPEG standard, annex K, at quality 50."""


def statistics(rgb: np.ndarray) -> np.ndarray:
    """Paints the chart of a picture, uint8 (H, W, 3), as one of the same size; sides below 32 px leave cells out."""
    cells = np.clip(np.nan_to_num(measure(rgb)), 0, 1)
    chart = np.zeros((CELLS * CELLS, 3), np.float32)
    chart[: len(cells)] = cells
    chart = (chart.reshape(CELLS, CELLS, 3) * 255).round().astype(np.uint8)
    return cv2.resize(chart, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def measure(rgb: np.ndarray) -> np.ndarray:
    """Measures a picture, uint8 (H, W, 3): float32 (numbers, 3), scaled so that most lie in [0, 1]."""
    colour = rgb.astype(np.float32)
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    spectra = _radial(luma)
    parts = [
        _levels(rgb),
        _extremes(rgb),
        _noise(colour),
        spectra,
        _evidence(luma[..., 0]),
        _angular(luma[..., 0]),
        _blocks(luma),
        _lattices(colour),
        _gradients(luma),
    ]
    return np.concatenate([part if part.ndim == 2 else _grey(part) for part in parts]).astype(np.float32)


def _levels(rgb: np.ndarray) -> np.ndarray:
    """Histograms of values and percentiles, linear and logarithmic, of each channel."""
    columns, logs = [], np.log2(1 + np.arange(256))
    for channel in range(3):
        counts = np.bincount(rgb[..., channel].ravel(), minlength=256)
        share = counts / counts.sum()
        percent = _percentiles(counts, PERCENTILES)
        by_log = np.bincount(np.minimum((logs * 4).astype(int), 31), share, 32)
        filled = [(counts > 0).mean(), (counts[:64] > 0).mean()]
        moments = [*_moments(np.arange(256) / 255, share), *_moments(logs / 8, share)]
        ends = [np.sqrt(share[0]), np.sqrt(share[255])]
        coarse = np.sqrt(share.reshape(32, 8).sum(1))
        logarithmic = np.log2(1 + percent.clip(0)) / 8
        columns.append(np.concatenate([coarse, np.sqrt(by_log), percent / 255, logarithmic, filled, moments, ends]))
    return np.stack(columns, 1)


def _extremes(rgb: np.ndarray) -> np.ndarray:
    """Percentiles of the dark and the bright channel, of saturation and of ratios of channels."""
    planes = _planar(rgb)
    low, high = planes.min(0), planes.max(0)
    window = np.ones((7, 7), np.uint8)
    spread, ratio = _tables()
    red, blue = planes[0].astype(np.intp), planes[2].astype(np.intp)
    maps = (
        cv2.erode(low, window),
        cv2.dilate(high, window),
        high - low,
        spread[high.astype(np.intp) * 256 + low],
        ratio[red * 256 + blue],
    )
    counts = np.stack([np.bincount(each.ravel(), minlength=256) for each in maps])
    return _percentiles(counts, PERCENTILES).ravel() / 255


def _noise(colour: np.ndarray) -> np.ndarray:
    """Deviations of details at three scales, by direction, by brightness and in flat parts, of each channel."""
    planes = _planar(colour.astype(np.int32))
    rows, x = [], planes
    for scale in range(3):
        height, width = (side - side % 2 for side in x.shape[1:])
        top = x[:, 0:height:2, :width] + x[:, 1:height:2, :width]
        step = x[:, 0:height:2, :width] - x[:, 1:height:2, :width]
        details = (step[..., ::2] - step[..., 1::2], top[..., ::2] - top[..., 1::2], step[..., ::2] + step[..., 1::2])
        rows += [_by_channel(np.abs(detail), (10, 25, 50, 75)) / 2 / 4**scale for detail in details]
        x = top[..., ::2] + top[..., 1::2]
    second = np.abs(np.diff(np.diff(planes, 2, axis=1), 2, axis=2))
    rows.append(_by_channel(second, (5, 10, 25, 50, 75, 90)) / 6)
    smooth = _planar(cv2.blur(colour, (7, 7)))[:, 1:-1, 1:-1].astype(np.int32) >> 5
    joint = np.minimum(second, 511) + 512 * smooth + 4096 * np.arange(3)[:, None, None]
    by_level = np.bincount(joint.ravel(), minlength=3 * 4096).reshape(24, 512)
    rows.append(_percentiles(by_level, (50,)).reshape(3, 8).T / 6)
    local = cv2.blur(colour * colour, (5, 5)) - cv2.blur(colour, (5, 5)) ** 2
    deviations = (16 * np.sqrt(np.maximum(local, 0)) + np.float32(0.5)).astype(np.int32)
    rows.append(_by_channel(_planar(deviations), (1, 5, 10, 25, 50)) / 16)
    high = _planar(colour - cv2.blur(colour, (3, 3)))
    power = _dot(high, high) + 1e-3
    pairs = (
        (high[:, 1:], high[:, :-1]),
        (high[..., 1:], high[..., :-1]),
        (high[:, 2:], high[:, :-2]),
        (high[..., 2:], high[..., :-2]),
    )
    related = np.stack([_dot(one, other) / power / 2 + 0.5 for one, other in pairs])
    return np.concatenate([_log(np.maximum(np.concatenate(rows), 0), -3, 7), related])


def _radial(luma: np.ndarray) -> np.ndarray:
    """Log power of the cosine transform by radius, of luminance and colour differences: (RADII, 3)."""
    power = _dct(luma - luma.mean((0, 1))) ** 2
    return _log(_by_radius(power), -6, 24)


def _evidence(luminance: np.ndarray) -> np.ndarray:
    r"""How likely each sigma of `SIGMAS` makes the spectrum of a photograph, for three levels of noise.

    .. math:: \log p = -\tfrac12 \sum_f [\log V + |Y|^2 / V], \qquad V = h g_\sigma^2 P + q^2

    h is the mean of :math:`|Y|^2 / (g^2 P)` where the photograph is well above the noise. Beside each curve, where its
    top lies.
    """
    power = _by_radius(_dct((luminance - luminance.mean())[..., None]) ** 2)[:, 0]
    counts, f2 = _radii(*luminance.shape)[1:]
    expected = 3.6e-5 * 255**2 / f2**1.6
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
        parts.append(np.array([top / len(SIGMAS), _log(height[top], -8, 8)]))
    return np.concatenate(parts).astype(np.float32)


def _angular(luminance: np.ndarray) -> np.ndarray:
    """Log power of the windowed Fourier transform by direction in three bands, relative to the band's mean."""
    centred = luminance - luminance.mean()
    power = np.abs(np.fft.fft2(centred * _window(*luminance.shape))) ** 2
    sectors = _sectors(*luminance.shape)
    size = ANGLES * len(BANDS)
    total = np.bincount(sectors.ravel(), power.ravel(), size + 1)[:size]
    counts = np.bincount(sectors.ravel(), minlength=size + 1)[:size]
    logs = np.log2(total / np.maximum(counts, 1) + 1e-3).reshape(len(BANDS), ANGLES)
    mean = logs.mean(1, keepdims=True)
    return np.concatenate([((logs - mean) / 12 + 0.5).ravel(), ((mean + 4) / 28).ravel()]).astype(np.float32)


def _blocks(luma: np.ndarray) -> np.ndarray:
    """Coefficients of 8 x 8 blocks: their size, how many round to nothing, and how well each JPEG quality fits."""
    height, width = (side - side % 8 for side in luma.shape[:2])
    tiles = (luma[:height, :width] - 128).reshape(height // 8, 8, width // 8, 8, 3).transpose(4, 0, 2, 1, 3)
    matrix = _dct_matrix(8)
    size = np.abs(matrix @ np.ascontiguousarray(tiles) @ matrix.T).reshape(3, -1, 64)
    first = size[0][:, _FIRST]
    fits = []
    for quality in QUALITIES:
        steps = quantisation_steps(quality).reshape(64)[_FIRST].astype(np.float32)
        live = first > 0.6 * steps
        phase = np.cos(np.float32(2 * np.pi) * first / steps)
        fits.append((phase * live).sum() / live.sum() / 2 + 0.5 if live.sum() > 30 else 0.0)
    return np.concatenate([_log(size.mean(1).T, -5, 9), (size < 0.7).mean(1).T, _grey(np.array(fits))])


def _lattices(colour: np.ndarray) -> np.ndarray:
    """Steps between neighbours by their place in cells of 2, 3, 4 and 8 px: their mean size, and how many are none."""
    parts = []
    for picture in (colour, np.ascontiguousarray(colour.transpose(1, 0, 2))):
        along = picture.reshape(len(picture), -1)
        steps = np.abs(np.diff(along, axis=0))
        mean = steps.mean(1)
        none = 1 - np.count_nonzero(steps, 1) / steps.shape[1]
        whole = mean.mean() + 1e-3
        for cell in (2, 3, 4, 8):
            phases = np.arange(len(mean)) % cell
            counts = np.bincount(phases, minlength=cell)
            for value, scale in ((mean, 3 * whole), (none, 1.0)):
                by_phase = np.bincount(phases, value, cell) / counts / scale
                parts.append(np.append(by_phase, by_phase.max() - by_phase.min()))
    return np.concatenate(parts)


def _gradients(luma: np.ndarray) -> np.ndarray:
    """Histogram of the log gradient and its percentiles, of luminance and colour differences."""
    columns = []
    for channel in range(3):
        plane = np.ascontiguousarray(luma[..., channel])
        squared = cv2.Sobel(plane, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(plane, cv2.CV_32F, 0, 1) ** 2
        counts = _counts((np.log2(squared / 16 + 1 / 64) + 6) * 12, 240)
        shares = counts.reshape(24, 10).sum(1) / counts.sum()
        columns.append(np.concatenate([np.sqrt(shares), _percentiles(counts, PERCENTILES) / 240]))
    return np.stack(columns, 1)


def quantisation_steps(quality: int) -> np.ndarray:
    """Gives the luminance table that encoders use at a quality: float (8, 8), grey levels."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    return np.clip(np.floor(_LUMINANCE_TABLE * factor + 0.5), 1, 255)


def _counts(values: np.ndarray, bins: int = 256) -> np.ndarray:
    """Counts values that round to 0, 1, .. bins - 1; what lies beyond counts as the last."""
    return np.bincount(np.minimum((values.ravel() + np.float32(0.5)).astype(np.int32), bins - 1), minlength=bins)


def _percentiles(counts: np.ndarray, percent: tuple[float, ...]) -> np.ndarray:
    """Reads percentiles off counts of whole numbers, each spread over half a unit to both sides.

    counts: (..., bins). Returns (..., percentiles).
    """
    below = np.cumsum(counts, -1)
    wanted = below[..., -1:] * np.array(percent) / 100
    place = np.minimum((below[..., None, :] < wanted[..., None]).sum(-1), counts.shape[-1] - 1)
    here = np.take_along_axis(counts, place, -1)
    inside = (wanted - np.take_along_axis(below, place, -1) + here) / np.maximum(here, 1)
    return place + np.minimum(inside, 1) - 0.5


def _by_channel(values: np.ndarray, percent: tuple[float, ...]) -> np.ndarray:
    """Percentiles of whole numbers from 0 on, those from 1023 on as 1023: int32 (3, H, W) -> (percentiles, 3)."""
    joint = np.minimum(values, 1023) + 1024 * np.arange(3)[:, None, None]
    counts = np.bincount(joint.ravel(), minlength=3 * 1024).reshape(3, 1024)
    return _percentiles(counts, percent).T


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """255 (high - low) / high at 256 high + low, and the log ratio of two levels at 256 one + other: uint8 (65536,)."""
    one, other = np.mgrid[:256, :256]
    logs = np.log2(1 + np.arange(256)) * 16
    spread = np.maximum(one - other, 0) * 255 / np.maximum(one, 1)
    ratio = np.minimum(128 + logs[one] - logs[other], 255)
    return spread.round().astype(np.uint8).ravel(), ratio.round().astype(np.uint8).ravel()


def _planar(colour: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(colour.transpose(2, 0, 1))


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Means of products, of each channel."""
    return np.einsum("chw,chw->c", one, other) / one[0].size


def _moments(values: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a distribution."""
    mean = values @ share
    return mean, np.sqrt(max(0.0, (values * values) @ share - mean * mean))


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, None], 3, 1)


def _log(values, low: float, high: float):
    """log2, scaled so that low .. high is 0 .. 1."""
    return (np.log2(np.maximum(values, 2.0**low)) - low) / (high - low)


@lru_cache(maxsize=16)
def _dct_matrix(n: int) -> np.ndarray:
    k, i = np.mgrid[:n, :n]
    matrix = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * np.sqrt(2 / n)
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def _dct(planes: np.ndarray) -> np.ndarray:
    rows, columns = (_dct_matrix(n) for n in planes.shape[:2])
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
