"""Is a sample believable? The automatic part of the corpus's verification (Section 3.2, stage 2).

Two questions: does the degraded image follow from the clean one and the values (`reproduces`), and could a camera
have seen it and a person read the physics from it (`faults`)?
"""

from __future__ import annotations

import cv2
import numpy as np

from envs.taxonomy import Degradation

MAX_CLIPPED = 0.10
"""Share of channel values newly at 0 or 255. Haze and blur are averages and do not clip; bicubic reduction overshoots,
by .06 at most in 300 crops."""
MAX_CLIPPED_DARK = 0.90
"""The same for low light, which leaves 31 % of a scene black in the median; where 90 % are, nothing can be read."""
MIN_CONTRAST = 2.0
"""Standard deviation of the degraded luminance, grey levels; below it 8 bits hold no scene."""
MIN_CONTRAST_DARK = 0.5
"""The same for low light, whose median is 2.8: here half a level, two of a hundred crops."""
MIN_CHANGE = 0.25
"""Mean |degraded - clean|, grey levels: less than one value in four has moved by one level, nothing can be read."""
MIN_HAZE = 4.0
"""The same for haze, which nobody calls haze below some levels."""
MAX_HAZE = 120.0
"""Half the range: a dark scene under dense bright haze, one of a hundred draws."""
MIN_DEPTH_RATIO = 1.5
"""How many times farther the far end of a scene (95th percentile) is than the near one (5th). Below it everything is at
one distance, a wall or a close-up indoors: air thick enough to veil it would hide whatever is a little farther."""


def faults(
    clean: np.ndarray, degraded: np.ndarray, degradation: Degradation, depth: np.ndarray | None = None
) -> tuple[str, ...]:
    """Why the sample is not believable; empty if it is.

    Args:
        clean, degraded: uint8 (H, W, 3).
        depth: (H, W) in any unit, where it is known.

    Returns:
        Names of: `clipped`, `flat`, `unchanged`, `haze_thin`, `haze_opaque`, `haze_near`.
    """
    dark, hazy = "low_light" in degradation.types, "haze" in degradation.types
    change = mean_change(clean, degraded)
    found = {
        "clipped": clipped_share(clean, degraded) > (MAX_CLIPPED_DARK if dark else MAX_CLIPPED),
        "flat": contrast(degraded) < (MIN_CONTRAST_DARK if dark else MIN_CONTRAST),
        "unchanged": change < MIN_CHANGE,
        "haze_thin": degradation.type == "haze" and change < MIN_HAZE,
        "haze_opaque": degradation.type == "haze" and change > MAX_HAZE,
        "haze_near": hazy and depth is not None and depth_ratio(depth) < MIN_DEPTH_RATIO,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def clipped_share(clean: np.ndarray, degraded: np.ndarray) -> float:
    """Share of channel values at 0 or 255 in the degraded image that are not in the clean one, 0 .. 1."""
    return float((_at_an_end(degraded) & ~_at_an_end(clean)).mean())


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the luminance, grey levels."""
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).std())


def mean_change(clean: np.ndarray, degraded: np.ndarray) -> float:
    """Mean absolute difference, grey levels."""
    return float(cv2.absdiff(clean, degraded).mean())


def depth_ratio(depth: np.ndarray) -> float:
    """How many times farther the far end of a scene is than its near end, whatever the unit; at least 1."""
    near, far = np.percentile(depth, [5, 95])
    return float(far / near)


def _at_an_end(image: np.ndarray) -> np.ndarray:
    return (image == 0) | (image == 255)
