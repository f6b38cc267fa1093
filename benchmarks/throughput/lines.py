"""A straight line through what a process held over time: is its memory flat?"""

from __future__ import annotations

import numpy as np

BOUND = 0.05
"""A process is flat when the line rises by less than this share of its memory over the time that counts."""


def fitted(seconds: list[float], values: list[int]) -> dict:
    """The level at the start of the last two thirds, and the rise of the fitted line over them."""
    late = np.array(seconds) > seconds[-1] / 3
    slope, _ = np.polyfit(np.array(seconds)[late], np.array(values, dtype=float)[late], 1)
    return {"bytes": int(np.array(values)[late][0]), "rise": float(slope * seconds[-1] * 2 / 3)}
