"""Paints what classical methods measure of a picture as a picture, so that a policy can read it: the view `statistics`.

A ridge regression on thirty such numbers reads haze and low light better than a small network that sees pixels alone
(docs/learning.md). Each number is one grey cell of a 32 x 32 chart, scaled to [0, 1] by fixed ranges; where it is of
one channel (red, green, blue, or luminance and two colour differences), so is the colour of its cell.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from envs.spectra import angular, blocks, evidence, log_scaled, radial

CELLS = 32
"""A side of the chart."""
PERCENTILES = (0, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9, 100)


def statistics(rgb: np.ndarray) -> np.ndarray:
    """Paints the chart of a picture, uint8 (H, W, 3), as one of the same size; sides below 32 px leave cells out."""
    cells = np.clip(np.nan_to_num(measure(rgb)), 0, 1)
    chart = np.zeros((CELLS * CELLS, 3), np.float32)
    chart[: len(cells)] = cells
    painted = (chart.reshape(CELLS, CELLS, 3) * 255).round().astype(np.uint8)
    return cv2.resize(painted, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def measure(rgb: np.ndarray) -> np.ndarray:
    """Measures a picture, uint8 (H, W, 3): float32 (numbers, 3), scaled so that most lie in [0, 1]."""
    colour = rgb.astype(np.float32)
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    parts = [
        _levels(rgb),
        _extremes(rgb),
        _noise(colour),
        radial(luma),
        evidence(luma[..., 0]),
        angular(luma[..., 0]),
        blocks(luma),
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
    return np.concatenate([log_scaled(np.maximum(np.concatenate(rows), 0), -3, 7), related])


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
