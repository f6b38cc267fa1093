"""Degradations in the pixels of one picture or another: the taxonomy's are those of the small square a policy sees."""

from __future__ import annotations

import json

import cv2
import numpy as np

from configs import UserError
from envs.degradations import PHENOMENA
from envs.taxonomy import Degradation, Taxonomy

IN_PIXELS = {key.name: key for phenomenon in PHENOMENA.values() for key in phenomenon.keys if key.in_pixels}
"""Keys that grow with the resolution of the picture they are read from."""


def given_degradation(answer: dict, taxonomy: Taxonomy, ratio: float) -> Degradation:
    """A degradation in pixels of the photo; keys that count pixels may be `ratio` times the taxonomy's high.

    Raises:
        UserError: unknown type, wrong keys, a value out of range.
    """
    well_formed = isinstance(answer, dict) and set(answer) >= {"type", "values"}
    if not well_formed or not isinstance(answer["type"], str) or not isinstance(answer["values"], dict):
        example = '{"type": "blur", "values": {"sigma": 2.0}}'
        raise UserError(f"degradation: expected JSON such as {example}, got {json.dumps(answer)[:80]}")
    try:
        values = dict(answer["values"])
        inside = dict(values)
        for name in values.keys() & IN_PIXELS.keys():
            key = taxonomy.keys[name]
            high = key.high * ratio + (0.5 if key.is_class else 0)  # which is whole in every picture
            if isinstance(values[name], (int, float)) and key.low <= values[name] <= high:
                inside[name] = min(values[name], key.high)
        checked = taxonomy.degradation(answer["type"], inside)
    except KeyError as foreign:
        raise UserError(f"degradation: {answer['type']} has no key {foreign}") from None
    except ValueError as error:
        raise UserError(f"degradation: {error}") from None
    except (TypeError, OverflowError, RecursionError):
        raise UserError(f"degradation: expected numbers as values, got {str(values)[:80]}") from None
    given = {name: values[name] for name in values.keys() & IN_PIXELS.keys()}
    exact = {name: round(value) if IN_PIXELS[name].is_class else value for name, value in given.items()}
    return Degradation(checked.type, tuple((name, exact.get(name, value)) for name, value in checked.values))


def policy_view(photo: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """The central square, uint8 (size, size, 3), and how many photo pixels one of its pixels spans."""
    side = min(photo.shape[:2])
    top, left = ((n - side) // 2 for n in photo.shape[:2])
    square = np.ascontiguousarray(photo[top : top + side, left : left + side])
    if side == size:
        return square, 1.0
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=way), side / size


def to_photo(degradation: Degradation, ratio: float) -> Degradation:
    """The same degradation, its pixels those of the photo; whole where they must be."""

    def scaled(name: str, value):
        if name not in IN_PIXELS:
            return value
        return max(2, round(value * ratio)) if IN_PIXELS[name].is_class else value * ratio

    return Degradation(degradation.type, tuple((name, scaled(name, value)) for name, value in degradation.values))


def gray_as(photo: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Takes the colour out of a picture, uint8 (H, W, 3), that was made of a photograph without any."""
    if (photo != photo[..., :1]).any():
        return picture
    return np.repeat(picture.mean(-1, keepdims=True).round().astype(np.uint8), 3, axis=-1)
