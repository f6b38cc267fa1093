"""Statistics of natural pictures, and a model of what photographs have in common (NIQE and BRISQUE, Mittal et al.).

Locally normalised luminance of sharp photographs is close to Gaussian; blur, enlargement, noise and ringing each bend
the shape of its distribution, and of the products of neighbours, in their own way.

`NaturalModel` is the method of NIQE with a model of our own, not NIQE itself: other photographs, blocks of 32 px
instead of 96 (so that 128 px hold 49 of them, overlapping), and no rounding to 8 bits. Its numbers compare with each
other only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from configs import UserError

WINDOW, SPREAD = 7, 7 / 6
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
FEATURES = 36
SHIPPED = Path(__file__).parent / "niqe_local.json"
SHARP = 0.6
"""Blocks with at least this share of their picture's greatest local contrast are fitted."""
CONTRAST = 4.0
"""Grey levels of local deviation below which no block counts as sharp."""
_TINY = 1e-12


def luminance(pictures: Tensor) -> Tensor:
    """Converts (B, 3, H, W) in [0, 1] to (B, 1, H, W) on 0 .. 255, float64 (rounding then cannot depend on B)."""
    red, green, blue = (255 * pictures.double()).unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def normalised(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Computes mean-subtracted, contrast-normalised luminance and the local deviation, (B, 1, H, W) each."""
    mean = _smooth(luma)
    deviation = (_smooth(luma.square()) - mean.square()).clamp_min(0).sqrt()
    return (luma - mean) / (deviation + 1), deviation


def halve(luma: Tensor) -> Tensor:
    """Computes the second scale, means of 2 x 2 pixels."""
    return F.avg_pool2d(luma, 2)


def octave_ratio(luma: Tensor) -> Tensor:
    """Computes the log of the power near 1/8 .. 1/4 cycles a pixel over that an octave lower: (B,); falls with blur."""
    height, width = luma.shape[-2:]
    window = torch.hann_window(height, **_like(luma))[:, None] * torch.hann_window(width, **_like(luma))
    power = torch.fft.fft2(luma[:, 0] / 255 * window).abs().square()
    rows, columns = (torch.fft.fftfreq(side, **_like(luma)) for side in (height, width))
    frequency = torch.hypot(rows[:, None], columns)
    low, high = (power[:, (frequency >= start) & (frequency < 2 * start)].mean(-1) + 1e-9 for start in (0.0625, 0.125))
    return (high / low).log()


def log_contrast(luma: Tensor) -> Tensor:
    """Computes the standard deviation of the logarithm of luminance: (B,); falls with haze."""
    return (luma / 255 + 0.02).log().flatten(1).std(-1)



STATISTICS = {"spectrum": octave_ratio, "contrast": log_contrast}
"""Numbers of a whole picture that are alike in all photographs; what counts is how far one lies from their mean."""


def shapes(x: Tensor, block: int | tuple[int, int], stride: int) -> Tensor:
    """Fits the shapes of the distributions in each block of a normalised picture.

    Args:
        x: (B, 1, H, W) from `normalised`.
        block, stride: side of a block and distance of the next one, pixels.

    Returns:
        (B, blocks, 5, 4): of x itself and of its products with the four neighbours, each the asymmetric
        generalised Gaussian's (alpha, mean, left deviation, right deviation).
    """
    products = [x] + [x * torch.roll(x, shift, dims=(-2, -1)) for shift in NEIGHBOURS]
    return torch.stack([_asymmetric(product, block, stride) for product in products], dim=2)


def _asymmetric(x: Tensor, block: int | tuple[int, int], stride: int) -> Tensor:
    """Moment match of an asymmetric generalised Gaussian per block: (B, blocks, 4)."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, block, stride).flatten(1)

    square, left = x.square(), (x < 0).double()
    right = 1 - left
    left_sd, right_sd = ((mean(square * side) / mean(side).clamp_min(_TINY) + _TINY).sqrt() for side in (left, right))
    skew = left_sd / right_sd
    ratio = mean(x.abs()).square() / (mean(square) + _TINY)
    alpha = _alpha(ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square())
    centre = (right_sd - left_sd) * torch.exp(
        torch.lgamma(2 / alpha) - (torch.lgamma(1 / alpha) + torch.lgamma(3 / alpha)) / 2
    )
    return torch.stack([alpha, centre, left_sd, right_sd], dim=-1)


def _alpha(ratio: Tensor) -> Tensor:
    """The shape whose Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) is `ratio`, between 0.2 and 10, interpolated."""
    alphas, ratios = (table.to(ratio.device) for table in _alpha_table())
    above = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    low, high = ratios[above - 1], ratios[above]
    share = ((ratio - low) / (high - low)).clamp(0, 1)
    return alphas[above - 1] + share * (alphas[above] - alphas[above - 1])


@lru_cache(1)
def _alpha_table() -> tuple[Tensor, Tensor]:
    a = torch.arange(0.2, 10.001, 0.001, dtype=torch.float64)
    return a, torch.exp(2 * torch.lgamma(2 / a) - torch.lgamma(1 / a) - torch.lgamma(3 / a))


def _like(x: Tensor) -> dict:
    return {"dtype": x.dtype, "device": x.device}


def _smooth(x: Tensor) -> Tensor:
    """Gaussian window, edges repeated; sums of shifted pictures, so that a row's rounding is its own."""
    taps = torch.exp(-((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2) / (2 * SPREAD**2))
    taps = (taps / taps.sum()).tolist()
    height, width = x.shape[-2:]
    x = F.pad(x, (WINDOW // 2,) * 4, mode="replicate")
    x = sum(tap * x[..., i : i + height, :] for i, tap in enumerate(taps))
    return sum(tap * x[..., i : i + width] for i, tap in enumerate(taps))


@dataclass(frozen=True)
class NaturalModel:
    """Describes what sharp photographs look like.

    mean: (36,), covariance: (36, 36) of the features of sharp blocks, float64.
    statistics: {name of `STATISTICS`: its (mean, standard deviation) over photographs}.
    block: side of a block, even, pixels; the next begins half a block further.
    about: where it comes from.
    """

    mean: Tensor
    covariance: Tensor
    statistics: dict[str, tuple[float, float]]
    block: int
    about: dict

    def distance(self, pictures: Tensor) -> Tensor:
        """Measures how far pictures are from it (the NIQE distance, Eq. 10): float64 (B,); lower is better.

        Args:
            pictures: (B, 3, H, W) in [0, 1], sides at least one block.

        Raises:
            UserError: the pictures are smaller than a block.
        """
        if min(pictures.shape[-2:]) < self.block:
            raise UserError(f"niqe_local: expected sides of at least {self.block} px, got {tuple(pictures.shape[-2:])}")
        features, _ = block_features(pictures, self.block)
        mean, covariance = features.mean(1), _covariance(features)
        off = (mean - self.mean.to(mean))[..., None]
        pooled = (covariance + self.covariance.to(covariance)) / 2
        return (off.mT @ torch.linalg.solve(pooled, off)).flatten().clamp_min(0).sqrt()

    def oddity(self, name: str, pictures: Tensor) -> Tensor:
        """Counts standard deviations between a statistic of pictures and its mean: float64 (B,); lower is better."""
        mean, deviation = self.statistics[name]
        return ((STATISTICS[name](luminance(pictures)) - mean) / deviation).abs()


def block_features(pictures: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Computes (B, blocks, 36), the features of each block, and (B, blocks), its mean local deviation."""
    luma = luminance(pictures)
    fine, deviation = normalised(luma)
    coarse, _ = normalised(halve(luma))
    scales = [shapes(fine, block, block // 2), shapes(coarse, block // 2, block // 4)]
    blocks = min(scale.shape[1] for scale in scales)
    contrast = F.avg_pool2d(deviation, block, block // 2).flatten(1)
    return torch.cat([_select(scale[:, :blocks]) for scale in scales], dim=-1), contrast[:, :blocks]


def fit(crops: Iterable[np.ndarray], block: int, about: dict) -> NaturalModel:
    """Fits the model to the sharp blocks of some crops, uint8 (H, W, 3) each, all sharp by origin.

    Raises:
        UserError: too few sharp blocks for a covariance.
    """
    sharp, whole = [], {name: [] for name in STATISTICS}
    for crop in crops:
        picture = torch.tensor(crop).permute(2, 0, 1)[None] / 255
        for name, statistic in STATISTICS.items():
            whole[name].append(statistic(luminance(picture)))
        features, contrast = block_features(picture, block)
        chosen = contrast[0] >= max(CONTRAST, SHARP * float(contrast.max()))
        sharp.append(features[0, chosen])
    features = torch.cat(sharp) if sharp else torch.zeros(0, FEATURES)
    if len(features) < 10 * FEATURES:
        raise UserError(f"fit-iqa: expected at least {10 * FEATURES} sharp blocks, found {len(features)}")
    about = about | {"blocks": len(features)}
    statistics = {name: (float(torch.cat(v).mean()), float(torch.cat(v).std())) for name, v in whole.items()}
    return NaturalModel(features.mean(0), _covariance(features[None])[0], statistics, block, about)


def save(model: NaturalModel, path: Path) -> None:
    """Writes the model as JSON."""
    content = {
        "mean": _digits(model.mean),
        "covariance": [_digits(row) for row in model.covariance],
        "habits": model.statistics,
        "block": model.block,
        "about": model.about,
    }
    path.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")


@lru_cache(4)
def load(path: str = "") -> NaturalModel:
    """Reads the shipped model, or that of a file that `duvlm run fit-iqa` wrote.

    Raises:
        UserError: no such file, or not such a file.
    """
    file = Path(path).expanduser() if path else SHIPPED
    try:
        content = json.loads(file.read_text())
        mean, covariance = (torch.tensor(content[name], dtype=torch.float64) for name in ("mean", "covariance"))
        if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
            raise ValueError(f"shapes {tuple(mean.shape)}, {tuple(covariance.shape)}")
        statistics = {name: tuple(map(float, content["habits"][name])) for name in STATISTICS}
        return NaturalModel(mean, covariance, statistics, int(content["block"]), content["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"niqe_local: {file} is no model of `duvlm run fit-iqa`: {error}") from error


def _select(shapes: Tensor) -> Tensor:
    """Takes 18 of the 20 numbers: of the picture itself shape and mean deviation, of the four products all."""
    own = torch.stack([shapes[..., 0, 0], shapes[..., 0, 2:].mean(-1)], dim=-1)
    return torch.cat([own, shapes[..., 1:, :].flatten(-2)], dim=-1)


def _covariance(features: Tensor) -> Tensor:
    """(B, n, 36) -> (B, 36, 36); zero for a single block."""
    off = features - features.mean(1, keepdim=True)
    return off.mT @ off / max(1, features.shape[1] - 1)


def _digits(row: Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in row.tolist()]
