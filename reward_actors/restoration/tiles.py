"""Runs a prior on pictures larger than it was made for: in overlapping tiles, blended where they meet."""

from __future__ import annotations

import torch
from torch import Tensor

from reward_actors.priors.base import Prior
from reward_actors.priors.gaussian import GaussianPrior, photo_gaussian

WHOLE = 512
"""Pictures of at most this side go through a network in one piece."""
TILE, OVERLAP = 384, 64


def prior_for_size(prior: Prior, height: int, width: int) -> Prior:
    """Adapts a prior to pictures of this size, pixels; returns it as it is where it can take them whole."""
    if isinstance(prior, GaussianPrior):  # made for one size, and cheap at any
        return photo_gaussian(height, width, str(prior.device))
    return prior if max(height, width) <= WHOLE else TiledPrior(prior)


class TiledPrior:
    """Predicts the noise of a large picture from tiles of `TILE` px; weights fall off linearly over the overlap."""

    def __init__(self, prior: Prior):
        self._prior = prior
        self.alphas_cumprod = prior.alphas_cumprod
        self.device = prior.device
        self.fingerprint = prior.fingerprint

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicts the noise; shapes as in `Prior.eps`."""
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        for top in tile_starts(x.shape[-2]):
            for left in tile_starts(x.shape[-1]):
                window = (..., slice(top, top + TILE), slice(left, left + TILE))
                tile = x[window]
                weight = (ramp(tile.shape[-2])[:, None] * ramp(tile.shape[-1])).to(x.device)
                total[window] += weight * self._prior.eps(tile, t)
                weights[window] += weight
        return total / weights


def tile_starts(length: int) -> list[int]:
    """Lists where tiles begin along a side of `length` px, the last flush with its end."""
    if length <= TILE:
        return [0]
    count = -(-(length - OVERLAP) // (TILE - OVERLAP))
    return [round(i * (length - TILE) / (count - 1)) for i in range(count)]


def ramp(length: int) -> Tensor:
    """Computes a tile's weights along a side: 1 inside, falling towards both ends over the overlap, never 0."""
    position = torch.arange(length, dtype=torch.float32)
    edge = torch.minimum(position, length - 1 - position) + 1
    return (edge / OVERLAP).clamp(max=1)
