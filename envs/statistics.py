"""Paints what classical methods measure of a picture as a picture, so that a policy can read it: the view `statistics`.

A ridge regression on thirty such numbers reads haze and low light better than a small network that sees pixels alone
(docs/learning.md). Each number is told as how many standard deviations it is from its mean over a corpus
(`statistics.json`), as one channel of one cell of a tile; the chart repeats the tile, so that every patch token that a
network makes of it has them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from envs.spectra import angular, blocks, blur_evidence, motion_evidence, radial

TABLE = Path(__file__).with_suffix(".json")
"""Mean and standard deviation of each number over the samples of a corpus of the open world."""
SIDE, CELL = 8, 4
"""Cells a side of the tile, pixels a side of a cell: a tile is 32 px, what one visual token shows."""
REACH = 4.0
"""Standard deviations from the mean at which a channel is black or white."""


def statistics(rgb: np.ndarray) -> np.ndarray:
    """Paints the chart of a picture, uint8 (H, W, 3), as one of the same size."""
    mean, spread = _table()
    scores = (np.nan_to_num(measure(rgb)) - mean) / spread
    tile = np.full(SIDE * SIDE * 3, 128, np.uint8)
    tile[: len(scores)] = (scores.clip(-REACH, REACH) / REACH * 127.5 + 127.5).round().astype(np.uint8)
    large = tile.reshape(SIDE, SIDE, 3).repeat(CELL, 0).repeat(CELL, 1)
    height, width = rgb.shape[:2]
    times = (-(-height // len(large)), -(-width // len(large)), 1)
    return np.ascontiguousarray(np.tile(large, times)[:height, :width])


def measure(rgb: np.ndarray) -> np.ndarray:
    """Measures a picture, uint8 (H, W, 3) of 16 px a side at least: float32 (numbers,), at most 192."""
    colour = rgb.astype(np.float32)
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2YCrCb)
    noise = _noise_level(luma[..., 0])
    rings = radial(luma)
    parts = [
        _levels(rgb),
        _extremes(rgb),
        _details(luma),
        rings[:, 0],
        rings.reshape(4, 4, -1).mean(1)[:, 1:],
        blur_evidence(luma[..., 0], noise),
        motion_evidence(luma[..., 0], noise),
        angular(luma[..., 0]),
        blocks(luma),
        _lattices(luma[..., 0]),
        _gradients(luma[..., 0]),
    ]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


def _levels(rgb: np.ndarray) -> list:
    """Percentiles of each channel, some of them logarithmic too, how many levels occur, how many values are at ends."""
    numbers = []
    for channel in range(3):
        counts = np.bincount(rgb[..., channel].ravel(), minlength=256)
        values = np.searchsorted(np.cumsum(counts) / counts.sum(), (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995))
        ends = np.sqrt(counts[[0, 255]] / counts.sum())
        numbers += [*values, *np.log2(1 + values[[0, 3, 6]]), (counts > 0).mean(), *ends]
    return numbers


def _extremes(rgb: np.ndarray) -> list:
    """Percentiles of the dark and the bright channel, of saturation and of the ratio of red to blue."""
    red, green, blue = cv2.split(rgb)
    low, high = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
    window = np.ones((7, 7), np.uint8)
    dark = np.percentile(cv2.erode(low, window)[::2, ::2], (1, 10, 50, 90, 99))
    bright = np.percentile(cv2.dilate(high, window)[::2, ::2], (50, 99))
    low, high, red, blue = (plane[::2, ::2].astype(np.float32) for plane in (low, high, red, blue))
    saturation, ratio = (high - low) / (high + 4), np.log2((red + 8) / (blue + 8))
    return [*dark, *bright, *np.percentile(saturation, (10, 50, 90)), *np.percentile(ratio, (10, 50, 90))]


def _noise_level(luminance: np.ndarray) -> float:
    """Guesses the noise, grey levels: the median of the finest diagonal details over .6745, .3 at least."""
    return max(0.3, float(np.median(np.abs(_diagonal(luminance)))) / 0.6745)


def _details(luma: np.ndarray) -> list:
    """Sizes of details at three scales, in flat parts and by brightness, how neighbours are related: logarithmic."""
    numbers, fine = [], luma
    for _ in range(3):
        numbers += list(np.log2([np.median(np.abs(_diagonal(fine[..., c]))) + 0.05 for c in range(3)]))
        height, width = (side - side % 2 for side in fine.shape[:2])
        fine = cv2.resize(fine[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    second = np.abs(np.diff(np.diff(luma[..., 0], 2, axis=0), 2, axis=1)) / 6
    second = second[::2, ::2]
    numbers += list(np.log2(np.percentile(second, (5, 25, 50, 90)) + 0.05))
    brightness = cv2.blur(luma[..., 0], (7, 7))[1:-1:2, 1:-1:2]
    for low, high in ((0, 32), (32, 80), (80, 160), (160, 256)):
        of_these = second[(brightness >= low) & (brightness < high)]
        numbers.append(np.log2(np.median(of_these if of_these.size > 50 else second) + 0.05))
    variance = (cv2.blur(luma * luma, (5, 5)) - cv2.blur(luma, (5, 5)) ** 2)[::2, ::2].reshape(-1, 3)
    deviation = np.sqrt(np.maximum(np.percentile(variance.T.copy(), (1, 10, 40), 1), 0))
    numbers += list(np.log2(deviation + 0.05).ravel())
    high = luma[..., :2] - cv2.blur(luma, (3, 3))[..., :2]
    power = (high**2).mean((0, 1)) + 1e-3
    pairs = ((high[1:], high[:-1]), (high[:, 1:], high[:, :-1]), (high[2:], high[:-2]), (high[:, 2:], high[:, :-2]))
    numbers += [value for one, other in pairs for value in (one * other).mean((0, 1)) / power]
    return numbers


def _lattices(luminance: np.ndarray) -> list:
    """How much steps between neighbours depend on their place in cells of 2, 3, 4 and 8 px, down and along: how many
    are none, and their mean size."""
    numbers = []
    for plane in (luminance, luminance.T):
        steps = np.abs(np.diff(plane, axis=0))
        mean, none = steps.mean(1) / (steps.mean() + 0.1), (steps < 0.5).mean(1)
        for cell in (2, 3, 4, 8):
            phases = np.arange(len(mean)) % cell
            counts = np.bincount(phases, minlength=cell)
            numbers += [np.ptp(np.bincount(phases, values, cell) / counts) for values in (none, mean)]
    down, along = np.array(numbers).reshape(2, -1)
    return [*np.minimum(down, along), *np.maximum(down, along)]


def _gradients(luminance: np.ndarray) -> np.ndarray:
    """Percentiles of the log gradient, of the finest scale and of the next."""
    numbers = []
    for plane in (luminance, cv2.resize(luminance, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)):
        size = cv2.magnitude(cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)) / 4
        numbers.append(np.log2(np.percentile(size, (10, 50, 90, 99)) + 0.1))
    return np.concatenate(numbers)


def _diagonal(plane: np.ndarray) -> np.ndarray:
    """Diagonal details of the Haar transform: (H / 2, W / 2)."""
    height, width = (side - side % 2 for side in plane.shape)
    rows = plane[0:height:2, :width] - plane[1:height:2, :width]
    return (rows[:, ::2] - rows[:, 1::2]) / 2


def write_table(pictures: Iterable[np.ndarray], file: Path = TABLE) -> None:
    """Writes `TABLE` anew from pictures of the world, uint8 (H, W, 3), some thousands: all policies that see the view
    must be trained again then."""
    numbers = np.stack([np.nan_to_num(measure(picture)) for picture in pictures])
    table = {"mean": numbers.mean(0), "spread": numbers.std(0) + 1e-3}
    file.write_text(json.dumps({name: np.round(values, 4).tolist() for name, values in table.items()}))


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    content = json.loads(TABLE.read_text())
    return np.array(content["mean"], np.float32), np.array(content["spread"], np.float32)
