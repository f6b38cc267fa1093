"""Chooses what a policy sees of a photograph: the whole, reduced, and the most informative pieces at its own scale."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from service.pixels import policy_view

CROPS = 4
"""Pieces at native scale, at most."""
MOST_CELLS = 64
"""Pieces to choose from along a side, at most."""
BLOCK = 16
"""Pieces begin at multiples of this many pixels, so that the blocks of a JPEG file lie in them as in a whole file."""


@dataclass(frozen=True)
class View:
    """Shows a policy one part of a photograph.

    picture: uint8 (S, S, 3), S the size of the policy's world.
    ratio: how many pixels of the photograph one of its pixels spans.
    whole: it is the central square, reduced or enlarged; otherwise a piece.
    """

    picture: np.ndarray
    ratio: float
    whole: bool = True


def views_of(photo: np.ndarray, size: int, reduction: int = 1) -> list[View]:
    """Returns the whole first, then pieces of the photograph; the whole alone where its shorter side is not longer
    than `size`.

    Args:
        photo: uint8 (H, W, 3).
        size: pixels a side of the policy's world.
        reduction: the pieces show the photograph so many times reduced; 1 is its own scale.
    """
    whole = View(*policy_view(photo, size))
    if min(photo.shape[:2]) <= size:
        return [whole]
    return [whole, *(View(piece, float(reduction), whole=False) for piece in pieces(photo, size, reduction))]


def pieces(photo: np.ndarray, size: int, reduction: int = 1, count: int = CROPS) -> list[np.ndarray]:
    """Cuts the pieces with the most gradient energy out of a fixed grid, the strongest first; equal ones in the order
    of reading.

    Returns:
        uint8 (size, size, 3) each, of size * reduction px a side in the photograph; fewer than `count` where the grid
        has not so many, none where the photograph is smaller than one.
    """
    side = size * reduction
    starts = [_starts(n, side) for n in photo.shape[:2]]
    places = [(top, left) for top in starts[0] for left in starts[1]]
    windows = [np.s_[top : top + side, left : left + side] for top, left in places]
    strongest = sorted(range(len(windows)), key=lambda i: -_energy(photo[windows[i]]))[:count]
    pieces = [np.ascontiguousarray(photo[windows[i]]) for i in strongest]
    if reduction > 1:
        pieces = [cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA) for piece in pieces]
    return pieces


def _starts(length: int, side: int) -> list[int]:
    """Begins of pieces spread evenly over a side of the photograph, without overlap, in the middle of it."""
    count = min(length // side, MOST_CELLS)
    stride = (length - side) // max(1, count - 1) // BLOCK * BLOCK
    first = (length - side - stride * (count - 1)) // 2 // BLOCK * BLOCK
    return [first + i * stride for i in range(count)]


def _energy(piece: np.ndarray) -> float:
    """Mean squared gradient of the luminance."""
    gray = cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY)
    across, down = (cv2.Sobel(gray, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    return float((across * across + down * down).mean())
