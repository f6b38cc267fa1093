"""What small sharp crops of photographs look like: the model behind `niqe_local`, `spectrum` and `contrast`.

`niqe_local` is the method of NIQE with a model of our own; the two others are single numbers of the whole picture.

Not NIQE: other photographs, blocks of 32 px instead of 96 (so that 128 px hold 49 of them, overlapping), and
no rounding to 8 bits. Its numbers compare with each other only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs import UserError
from reward_actors.scoring.natural_statistics import (
    FEATURES,
    halve,
    log_contrast,
    luminance,
    normalised,
    octave_ratio,
    shapes,
)

HABITS = {"spectrum": octave_ratio, "contrast": log_contrast}
"""Numbers of a whole picture that are alike in all photographs; what counts is how far one lies from their mean."""
SHIPPED = Path(__file__).parent / "niqe_local.json"
SHARP = 0.6
"""Blocks with at least this share of their picture's greatest local contrast are fitted."""
CONTRAST = 4.0
"""Grey levels of local deviation below which no block counts as sharp."""


@dataclass(frozen=True)
class NaturalModel:
    """What sharp photographs look like.

    mean: (36,), covariance: (36, 36) of the features of sharp blocks, float64.
    habits: {name of `HABITS`: its (mean, standard deviation) over photographs}.
    block: side of a block, even, pixels; the next begins half a block further.
    about: where it comes from.
    """

    mean: Tensor
    covariance: Tensor
    habits: dict[str, tuple[float, float]]
    block: int
    about: dict

    def distance(self, pictures: Tensor) -> Tensor:
        """How far pictures are from it (the NIQE distance, Eq. 10 of that paper): float64 (B,); lower is better.

        pictures: (B, 3, H, W) in [0, 1], sides at least one block.
        """
        if min(pictures.shape[-2:]) < self.block:
            raise UserError(f"niqe_local: expected sides of at least {self.block} px, got {tuple(pictures.shape[-2:])}")
        found, _ = block_features(pictures, self.block)
        mean, covariance = found.mean(1), _covariance(found)
        off = (mean - self.mean.to(mean))[..., None]
        pooled = (covariance + self.covariance.to(covariance)) / 2
        return (off.mT @ torch.linalg.solve(pooled, off)).flatten().clamp_min(0).sqrt()

    def oddity(self, habit: str, pictures: Tensor) -> Tensor:
        """Standard deviations between a picture's habit and that of photographs: float64 (B,); lower is better."""
        mean, deviation = self.habits[habit]
        return ((HABITS[habit](luminance(pictures)) - mean) / deviation).abs()


def block_features(pictures: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The 36 features of each block, 18 a scale: (B, blocks, 36), and its mean local deviation (B, blocks)."""
    luma = luminance(pictures)
    fine, deviation = normalised(luma)
    coarse, _ = normalised(halve(luma))
    found = [shapes(fine, block, block // 2), shapes(coarse, block // 2, block // 4)]
    blocks = min(part.shape[1] for part in found)
    contrast = torch.nn.functional.avg_pool2d(deviation, block, block // 2).flatten(1)
    return torch.cat([_select(part[:, :blocks]) for part in found], dim=-1), contrast[:, :blocks]


def fit(crops: Iterable[np.ndarray], block: int, about: dict) -> NaturalModel:
    """The model of the sharp blocks of some crops, uint8 (H, W, 3) each, all sharp by origin.

    Raises:
        UserError: too few sharp blocks for a covariance.
    """
    sharp, whole = [], {name: [] for name in HABITS}
    for crop in crops:
        picture = torch.tensor(crop).permute(2, 0, 1)[None] / 255
        for name, habit in HABITS.items():
            whole[name].append(habit(luminance(picture)))
        found, contrast = block_features(picture, block)
        chosen = contrast[0] >= max(CONTRAST, SHARP * float(contrast.max()))
        sharp.append(found[0, chosen])
    features = torch.cat(sharp) if sharp else torch.zeros(0, FEATURES)
    if len(features) < 10 * FEATURES:
        raise UserError(f"fit-iqa: expected at least {10 * FEATURES} sharp blocks, found {len(features)}")
    about = about | {"blocks": len(features)}
    habits = {name: (float(torch.cat(v).mean()), float(torch.cat(v).std())) for name, v in whole.items()}
    return NaturalModel(features.mean(0), _covariance(features[None])[0], habits, block, about)


def save(model: NaturalModel, path: Path) -> None:
    """Writes the model as JSON."""
    content = asdict(model)
    content |= {"mean": _digits(model.mean), "covariance": [_digits(row) for row in model.covariance]}
    path.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")


@lru_cache(4)
def load(path: str = "") -> NaturalModel:
    """The shipped model, or that of a file that `duvlm run fit-iqa` wrote.

    Raises:
        UserError: no such file, or not such a file.
    """
    file = Path(path).expanduser() if path else SHIPPED
    try:
        content = json.loads(file.read_text())
        mean, covariance = (torch.tensor(content[name], dtype=torch.float64) for name in ("mean", "covariance"))
        if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
            raise ValueError(f"shapes {tuple(mean.shape)}, {tuple(covariance.shape)}")
        habits = {name: tuple(map(float, content["habits"][name])) for name in HABITS}
        return NaturalModel(mean, covariance, habits, int(content["block"]), content["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"niqe_local: {file} is no model of `duvlm run fit-iqa`: {error}") from error


def _select(shapes: Tensor) -> Tensor:
    """18 of the 20 numbers: of the picture itself shape and mean deviation, of the four products all."""
    own = torch.stack([shapes[..., 0, 0], shapes[..., 0, 2:].mean(-1)], dim=-1)
    return torch.cat([own, shapes[..., 1:, :].flatten(-2)], dim=-1)


def _covariance(features: Tensor) -> Tensor:
    """(B, n, 36) -> (B, 36, 36); zero for a single block."""
    off = features - features.mean(1, keepdim=True)
    return off.mT @ off / max(1, features.shape[1] - 1)


def _digits(row: Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in row.tolist()]
