"""Statistics of natural pictures: what NIQE and BRISQUE measure (Mittal et al., 2012 and 2013).

Locally normalised luminance of sharp photographs is close to Gaussian; blur, enlargement, noise and ringing
each bend the shape of its distribution, and of the products of neighbours, in their own way.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SPREAD = 7, 7 / 6
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
FEATURES = 36
_TINY = 1e-12


def luminance(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 1, H, W) on 0 .. 255, float64 (rounding then cannot depend on B)."""
    red, green, blue = (255 * pictures.double()).unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def normalised(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-subtracted, contrast-normalised luminance and the local standard deviation, (B, 1, H, W) each."""
    mean = _smooth(luma)
    deviation = (_smooth(luma.square()) - mean.square()).clamp_min(0).sqrt()
    return (luma - mean) / (deviation + 1), deviation


def halve(luma: Tensor) -> Tensor:
    """The second scale: means of 2 x 2 pixels."""
    return F.avg_pool2d(luma, 2)


def octave_ratio(luma: Tensor) -> Tensor:
    """Log of the power at 1/8 .. 1/4 over that at 1/16 .. 1/8 cycles a pixel, about: (B,); falls with blur."""
    height, width = luma.shape[-2:]
    window = torch.hann_window(height, **_like(luma))[:, None] * torch.hann_window(width, **_like(luma))
    power = torch.fft.fft2(luma[:, 0] / 255 * window).abs().square()
    rows, columns = (torch.fft.fftfreq(side, **_like(luma)) for side in (height, width))
    frequency = torch.hypot(rows[:, None], columns)
    low, high = (power[:, (frequency >= start) & (frequency < 2 * start)].mean(-1) + 1e-9 for start in (0.0625, 0.125))
    return (high / low).log()


def log_contrast(luma: Tensor) -> Tensor:
    """Standard deviation of the logarithm of luminance: (B,); falls with haze."""
    return (luma / 255 + 0.02).log().flatten(1).std(-1)


def shapes(x: Tensor, block: int | tuple[int, int], stride: int) -> Tensor:
    """Shapes of the distributions in each block of a normalised picture.

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
