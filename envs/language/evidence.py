"""Says in words what the views of a picture show, before an answer concludes from it: `world.rationale_style=evidence`.

Four findings, each one of three words, computed from the degraded picture alone. The limits lie where the types of the
paper's world part (docs/learning.md): a blur empties the top of the spectrum, pixel replication leaves steps, haze
lifts the dark channel and narrows the levels, low light leaves no bright ones.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np

from envs.spectra import falloff

FINDINGS = {
    "spectrum falls": ("early", "midway", "late"),
    "edges": ("soft", "crisp", "stepped"),
    "dark channel": ("low", "raised", "high"),
    "levels": ("dark", "narrow", "wide"),
}
"""What is looked at, and the words for what is found."""
LIMITS = {"spectrum": (0.15, 0.45), "soft": 12, "stepped": 0.5, "dark channel": (16, 64), "dark": 64, "narrow": 128}
"""spectrum: share of the highest frequency below which four fifths of the power of the gradient lie. soft: 99th
percentile of the steps between neighbours, percent of the spread of levels (1st to 99th percentile). stepped: by how
much the share of steps of 0 varies with their place in cells of 2 to 8 px. dark channel: 5th percentile of the smallest
channel in 7 x 7 px, grey levels. dark: 99th percentile, narrow: the spread, grey levels of 255."""
CELLS = range(2, 9)


def describe(picture: np.ndarray) -> str:
    """Says what the views of a picture, uint8 RGB (H, W, 3), show, for example `Spectrum falls early, edges soft, dark
    channel low, levels wide.`"""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.int32)
    low, high = (int(_percentile(grey, percent)) for percent in (1, 99))
    spectrum = np.searchsorted(LIMITS["spectrum"], falloff(grey.astype(np.float32)), "right")
    dark = cv2.erode(picture.min(2), np.ones((7, 7), np.uint8))
    return sentence(
        int(spectrum),
        _edges(grey, high - low),
        int(np.searchsorted(LIMITS["dark channel"], _percentile(dark, 5), "right")),
        0 if high < LIMITS["dark"] else 1 + int(high - low >= LIMITS["narrow"]),
    )


def sentence(*levels: int) -> str:
    """Writes the sentence of four findings, each 0, 1 or 2, in the order of `FINDINGS`."""
    phrases = [f"{name} {words[level]}" for (name, words), level in zip(FINDINGS.items(), levels, strict=True)]
    return f"{', '.join(phrases)}.".capitalize()


def sentences() -> list[str]:
    """Lists every sentence there is."""
    return [sentence(*levels) for levels in product(range(3), repeat=len(FINDINGS))]


def _edges(grey: np.ndarray, spread: int) -> int:
    """0 where they are soft, 1 crisp, 2 where pixels repeat in cells."""
    steps = [np.abs(np.diff(along, axis=0)) for along in (grey, grey.T)]
    for along in steps:
        repeats = (along == 0).mean(1)
        for cell in CELLS:
            by_place = [repeats[place::cell].mean() for place in range(cell)]
            if max(by_place) - min(by_place) > LIMITS["stepped"]:
                return 2
    every = np.concatenate([along.ravel() for along in steps])
    return int(100 * _percentile(every, 99) >= LIMITS["soft"] * spread)


def _percentile(values: np.ndarray, percent: int) -> np.number:
    """One of the values, so that no rounding decides."""
    return np.percentile(values, percent, method="lower")
