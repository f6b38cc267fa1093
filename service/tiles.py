"""A prior on pictures larger than it was made for: overlapping tiles, blended where they meet."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.degradations.common import photo_power
from reward_actors.priors.base import GaussianPrior, Prior

WHOLE = 512
"""Pictures of at most this side go through a network in one piece."""
TILE, OVERLAP = 384, 64


class TiledPrior:
    """`eps` of a large picture from tiles of `TILE` px; weights fall off linearly over the overlap."""

    def __init__(self, prior: Prior):
        self._prior = prior
        self.alphas_cumprod, self.device, self.fingerprint = (
            prior.alphas_cumprod,
            prior.device,
            prior.fingerprint,
        )

    @staticmethod
    def around(prior: Prior, height: int, width: int) -> Prior:
        """The prior for a picture of this size: itself where it can take it whole."""
        if isinstance(prior, GaussianPrior):  # made for one size, and cheap at any
            power = 4 * photo_power(height, width)
            power[0, 0] = 0.25 * height * width
            return GaussianPrior(torch.zeros(1, 1, 1), power, str(prior.device))
        return prior if max(height, width) <= WHOLE else TiledPrior(prior)

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, 3, H, W) on [-1, 1]; t: (B,). The noise, (B, 3, H, W)."""
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        for top in starts(x.shape[-2]):
            for left in starts(x.shape[-1]):
                tile = x[..., top : top + TILE, left : left + TILE]
                weight = ramp(tile.shape[-2])[:, None] * ramp(tile.shape[-1])
                weight = weight.to(x.device)
                total[..., top : top + TILE, left : left + TILE] += weight * self._prior.eps(tile, t)
                weights[..., top : top + TILE, left : left + TILE] += weight
        return total / weights


def starts(length: int) -> list[int]:
    """Where tiles begin along a side, the last flush with its end."""
    if length <= TILE:
        return [0]
    count = -(-(length - OVERLAP) // (TILE - OVERLAP))
    return [round(i * (length - TILE) / (count - 1)) for i in range(count)]


def ramp(length: int) -> Tensor:
    """Weights of a tile along a side: 1 inside, falling towards both ends over the overlap, never 0."""
    position = torch.arange(length, dtype=torch.float32)
    edge = torch.minimum(position, length - 1 - position) + 1
    return (edge / OVERLAP).clamp(max=1)
