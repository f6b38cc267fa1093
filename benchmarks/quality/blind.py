"""Classical restoration that is told the type and nothing else: no parameters, no prior.

haze: dark channel prior (He, Sun, Tang 2009) with a guided filter. low light: stretch to the brightest pixels and
CLAHE. blur: unsharp masking. low resolution: bicubic enlargement of the cells one can see.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.quality.classical import cells, enlarge

UNSHARP_SIGMA, UNSHARP_AMOUNT = 2 / 128, 1.0
"""The blur assumed everywhere, in picture widths, and how much of what it took is put back."""
DARK_WINDOW, GUIDE_WINDOW = 1 / 9, 1 / 6  # of the shorter side
HAZE_KEPT, THINNEST = 0.05, 0.1
CLAHE_CLIP, CLAHE_TILES = 2.0, (4, 4)


def restore(degraded: np.ndarray, kind: str) -> np.ndarray:
    """uint8 (H, W, 3) -> float32 (H, W, 3) in [0, 1]; a type without a blind method comes back as it is."""
    unit = degraded.astype(np.float32) / 255
    if kind == "haze":
        return dark_channel(unit)
    if kind == "low_light":
        return stretch_and_clahe(unit)
    if kind == "blur":
        return unsharp(unit)
    if kind == "low_resolution":
        return visible_cells(degraded)
    return unit


def dark_channel(y: np.ndarray) -> np.ndarray:
    """(y - A) / max(t, .1) + A with t = 1 - .95 dark(y / A), A the mean of the .1 % haziest pixels."""
    side = min(y.shape[:2])
    dark = _dark(y, side)
    brightest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
    light = y.reshape(-1, 3)[brightest].mean(0).clip(1 / 255, 1)
    rough = 1 - (1 - HAZE_KEPT) * _dark(y / light, side)
    t = guided_filter(cv2.cvtColor(y, cv2.COLOR_RGB2GRAY), rough, round(side * GUIDE_WINDOW), 1e-3)
    return ((y - light) / np.maximum(t, THINNEST)[..., None] + light).clip(0, 1).astype(np.float32)


def guided_filter(guide: np.ndarray, picture: np.ndarray, window: int, eps: float) -> np.ndarray:
    """Smooths `picture` where `guide` is flat and keeps its edges (He, Sun, Tang 2010). Both (H, W)."""

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x.astype(np.float32), (window, window), borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(picture)
    slope = (mean(guide * picture) - middle * level) / (mean(guide * guide) - middle * middle + eps)
    return mean(slope) * guide + mean(level - slope * middle)


def stretch_and_clahe(y: np.ndarray) -> np.ndarray:
    """The 99.5 % brightest value becomes white, then contrast-limited equalisation of the lightness."""
    white = max(float(np.percentile(y, 99.5)), 1 / 255)
    bright = ((y / white).clip(0, 1) * 255).round().astype(np.uint8)
    lab = cv2.cvtColor(bright, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(CLAHE_CLIP, CLAHE_TILES).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / 255


def unsharp(y: np.ndarray) -> np.ndarray:
    """y + amount (y - Gaussian(y))."""
    smooth = cv2.GaussianBlur(y, (0, 0), UNSHARP_SIGMA * y.shape[1], borderType=cv2.BORDER_REFLECT)
    return (y + UNSHARP_AMOUNT * (y - smooth)).clip(0, 1)


def visible_cells(degraded: np.ndarray) -> np.ndarray:
    """Counts the replicated rows and columns, takes one pixel of each cell, and enlarges by bicubic interpolation."""
    height, width = degraded.shape[:2]
    rows = 1 + int((degraded[1:] != degraded[:-1]).any((1, 2)).sum())
    columns = 1 + int((degraded[:, 1:] != degraded[:, :-1]).any((0, 2)).sum())
    return enlarge(cells(degraded, rows, columns), height, width)


def _dark(y: np.ndarray, side: int) -> np.ndarray:
    window = np.ones((max(3, round(side * DARK_WINDOW)),) * 2, np.uint8)
    return cv2.erode(y.min(2), window)
