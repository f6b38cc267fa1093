"""Scores of a picture alone, by name: a few are computed here, all others are pyiqa's (non-commercial licence)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from configs import UserError
from reward_actors.scoring import niqe_local, third_party
from reward_actors.scoring.brisque import brisque

OURS = ("niqe_local", *niqe_local.HABITS, "brisque")
"""Computed here, without pyiqa; all are distances: lower is better."""
OFFERED = (*OURS, "piqe", "niqe", "clipiqa", "musiq")
"""The names `available` tries; `score` takes any no-reference name of pyiqa."""


def available() -> list[str]:
    """Those of `OFFERED` that can be computed here: package installed, weights on disk."""
    return [name for name in OFFERED if _loads(name)]


def score(name: str, picture: np.ndarray, weights: str = "") -> float:
    """The raw number of one picture, float32 (H, W, 3) in [0, 1]; see `score_batch`."""
    return float(score_batch(name, torch.tensor(picture).permute(2, 0, 1)[None], weights)[0])


def score_batch(name: str, pictures: Tensor, weights: str = "") -> Tensor:
    """The raw numbers of pictures, on their device.

    Args:
        pictures: (B, 3, H, W) in [0, 1].
        weights: file to use instead of the usual one.

    Returns:
        (B,), each independent of the other pictures; `higher_is_better` says which way is up.

    Raises:
        UserError: unknown name, package missing, or weights not on disk.
    """
    if name == "niqe_local":
        return niqe_local.load(weights).distance(pictures)
    if name in niqe_local.HABITS:
        return niqe_local.load(weights).oddity(name, pictures)
    if name == "brisque":
        return brisque(pictures, weights)
    if third_party.needs_truth(name):
        raise UserError(f"{name} compares with a truth: it is no score of a picture alone")
    return third_party.evaluate(name, pictures, weights=weights)


def higher_is_better(name: str) -> bool:
    """The direction of a score. Raises UserError where there is no such name."""
    return name not in OURS and third_party.higher_is_better(name)


@lru_cache
def _loads(name: str) -> bool:
    try:
        score_batch(name, torch.linspace(0, 1, 3 * 96 * 96).reshape(1, 3, 96, 96))
    except UserError:
        return False
    return True
