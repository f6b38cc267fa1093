"""Denoises by total variation (Rudin, Osher and Fatemi, 1992), in the shape of a prior; there is no network."""

from __future__ import annotations

import torch
from torch import Tensor

from reward_actors.priors.base import linear_alphas

STRENGTH = 0.05
"""Total variation that photographs have, as lambda of exp(-TV / lambda) on [0, 1]."""
ITERATIONS = 20


class TotalVariationPrior:
    """Predicts noise as what total-variation denoising takes away; needs no weights.

    With the picture v at noise level s, both on [0, 1], the estimate is

        argmin_x |x - v|^2 / (2 s^2) + TV(x) / strength,   TV(x) = sum |grad x|, colours together,

    by `ITERATIONS` steps of accelerated dual projection (Beck and Teboulle, 2009). Only elementwise operations: a
    picture's rounding does not depend on what else is in the batch.
    """

    fingerprint = f"tv-{STRENGTH}-{ITERATIONS}"

    def __init__(self, device: torch.device | str = "cpu"):
        self.alphas_cumprod = linear_alphas()
        self.device = torch.device(device)

    @torch.inference_mode()
    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicts the noise; shapes as in `Prior.eps`."""
        a = self.alphas_cumprod[t.cpu()].float().to(x.device).reshape(-1, 1, 1, 1)
        noisy = (x / a.sqrt() + 1) / 2
        variance = (1 - a) / a / 4
        clean = denoise(noisy, variance / STRENGTH)
        return (x - a.sqrt() * (2 * clean - 1)) / (1 - a).sqrt()


def denoise(v: Tensor, weight: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Minimises |x - v|^2 / 2 + weight TV(x): v (B, 3, H, W), weight (B, 1, 1, 1)."""
    p = v.new_zeros(2, *v.shape)
    q, momentum = p, 1.0
    for _ in range(iterations):
        ahead = q + _gradient(v - weight * _adjoint(q)) / (8 * weight)
        down, right = ahead.square()
        red, green, blue = (down + right).split(1, dim=1)  # not `sum`, whose rounding depends on the batch
        ahead = ahead / (red + green + blue).sqrt().clamp_min(1)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        q = ahead + (momentum - 1) / following * (ahead - p)
        p, momentum = ahead, following
    return v - weight * _adjoint(p)


def _gradient(x: Tensor) -> Tensor:
    """Differences to the next row and column, 0 at the ends: (2, B, 3, H, W)."""
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([down, right])


def _adjoint(p: Tensor) -> Tensor:
    """The adjoint of `_gradient`."""
    down, right = p
    x = torch.zeros_like(down)
    x[..., :-1, :] -= down[..., :-1, :]
    x[..., 1:, :] += down[..., :-1, :]
    x[..., :-1] -= right[..., :-1]
    x[..., 1:] += right[..., :-1]
    return x
