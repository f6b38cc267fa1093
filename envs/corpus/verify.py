"""Checks whether a sample is believable: the automatic part of the corpus's verification (Section 3.2, stage 2).

Two questions: does the degraded image follow from the clean one and the values (`reproduces`), and could a camera
have seen it and a person read the physics from it (`faults`)?
"""

from __future__ import annotations

import cv2
import numpy as np

from envs.taxonomy import Degradation

MIN_CHANGE = 0.25
"""Mean |degraded - clean|, grey levels: less than one value in four has moved by one level, nothing can be read."""


def faults(
    clean: np.ndarray, degraded: np.ndarray, degradation: Degradation, depth: np.ndarray | None = None
) -> tuple[str, ...]:
    """Names why a sample is not believable; nothing if it is. A picture with nothing wrong always is.

    Args:
        clean, degraded: uint8 (H, W, 3).
        depth: (H, W) in any unit, where it is known.

    Returns:
        Names of: `clipped`, `flat`, `unchanged`, and what the phenomena themselves name (`Phenomenon.faults`).
    """
    if not degradation.phenomena:
        return ()
    parts, change = degradation.phenomena, mean_change(clean, degraded)
    checks = {
        "clipped": clipped_share(clean, degraded) > max(part.max_clipped for part in parts),
        "flat": contrast(degraded) < min(part.min_contrast for part in parts),
        "unchanged": change < MIN_CHANGE,
    }
    ratio = None if depth is None else depth_ratio(depth)
    own = (name for part in parts for name in part.faults(change, ratio, alone=len(parts) == 1))
    return (*(name for name, failed in checks.items() if failed), *own)


def clipped_share(clean: np.ndarray, degraded: np.ndarray) -> float:
    """Measures the share of channel values, 0 .. 1, at 0 or 255 in the degraded image and not in the clean one."""
    return float((_at_an_end(degraded) & ~_at_an_end(clean)).mean())


def contrast(image: np.ndarray) -> float:
    """Measures the standard deviation of the luminance, grey levels."""
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).std())


def mean_change(clean: np.ndarray, degraded: np.ndarray) -> float:
    """Measures the mean absolute difference, grey levels."""
    return float(cv2.absdiff(clean, degraded).mean())


def depth_ratio(depth: np.ndarray) -> float:
    """Measures how many times farther the far end of a scene is than its near end, whatever the unit; at least 1."""
    near, far = np.percentile(depth, [5, 95])
    return float(far / near)


def _at_an_end(image: np.ndarray) -> np.ndarray:
    return (image == 0) | (image == 255)
