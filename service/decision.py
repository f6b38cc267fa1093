"""Decides whether a photograph is restored or left as it came: where little is known, restoring does harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from configs.schema import Restore
from envs.degradations import NONE, closed_form, estimate_noise, physics
from envs.degradations.base import Value, flatten
from envs.degradations.common import as_batch
from envs.taxonomy import Degradation
from service.reading.questions import Reading
from service.reading.views import pieces

END_WEIGHT = 1 / (2 * 1.645**2)
"""Weight of each end of a 90 % interval in a quadrature of three points that is exact for the variance of a normal
distribution; the middle has the rest."""


def decide(degradation: Degradation | None, confidence: float, gain: float, settings: Restore) -> tuple[str, str]:
    """Says what becomes of a photograph: ("restored", "") or ("left", reason).

    Args:
        degradation: what was read; None where the answer is invalid.
        confidence: probability of its type. gain: see `expected_gain`.
        settings: the thresholds.
    """
    if degradation is None:
        return "left", "invalid"
    if degradation.type == NONE:
        return "left", NONE
    if confidence < settings.confidence or gain <= settings.gain:
        return "left", "uncertain"
    return "restored", ""


def forced(settings: Restore) -> Restore:
    """Returns settings by which everything is restored that can be."""
    return replace(settings, confidence=0.0, gain=-np.inf)


def decide_for(photo: np.ndarray, reading: Reading, settings: Restore, size: int) -> tuple[str, str]:
    """Decides by what was read off a photograph, uint8 (H, W, 3).

    A reading without intervals, such as one that somebody gave, knows nothing of its uncertainty: it is followed. One
    that does not fit the picture, as replicated pixels where there are none, is not.

    size: pixels a side of the pieces by which the gain is estimated; a smaller photograph is one itself.
    """
    degradation = reading.degradation
    if degradation is None or degradation.type == NONE or reading.intervals is None:
        return decide(degradation, 1.0, np.inf, settings)
    if settings.gain > -np.inf and not physics(degradation.type).fits(photo, degradation):
        return "left", "uncertain"
    parts = pieces(photo, size) or [photo]
    gains = [expected_gain(part, degradation, reading.intervals, reading.confidence) for part in parts]
    return decide(degradation, reading.confidence, float(np.mean(gains)), settings)


def expected_gain(
    picture: np.ndarray, degradation: Degradation, intervals: Mapping[str, Sequence], confidence: float
) -> float:
    r"""Estimates by how much restoring lowers the mean squared error, on [0, 1]; negative where it is likely to harm.

    With x(v) the closed form at the values v, the truth is taken to be x(v) with v from the posterior if the type is
    right, and the picture y itself if it is wrong:

    .. math:: c \, E_v [\, |y - x(v)|^2 - |x(\hat v) - x(v)|^2 \,] - (1 - c) \, |x(\hat v) - y|^2

    The expectation takes one number at a time to both ends of its interval.

    Args:
        picture: uint8 (H, W, 3). degradation: the answer, in its pixels.
        intervals: {key: (low, high)}, 90 %, as in `Reading`. confidence: c.
    """
    ends = [
        _with_value(degradation, key, _like(degradation[key], pair[side]))
        for key, pair in intervals.items()
        for side in (0, 1)
    ]
    answers = [degradation, *ends]
    y = as_batch(picture)
    noise = estimate_noise(y, [degradation]).expand(len(answers))
    restored, *others = closed_form(y.expand(len(answers), -1, -1, -1), answers, noise)
    change = float((restored - y[0]).square().mean())
    right = change
    for other in others:
        saved = float((y[0] - other).square().mean() - (restored - other).square().mean())
        right += END_WEIGHT * (saved - change)
    return confidence * right - (1 - confidence) * change


def _with_value(degradation: Degradation, key: str, value: Value) -> Degradation:
    values = tuple((name, value if name == key else other) for name, other in degradation.values)
    return Degradation(degradation.type, values)


def _like(value: Value, numbers: float | Sequence[float]) -> Value:
    """Nests numbers, row by row, as a value is."""
    rest = iter(list(flatten(numbers)))

    def nested(part: Value) -> Value:
        return tuple(nested(item) for item in part) if isinstance(part, tuple) else next(rest)

    return nested(value)
