"""The Gaussian prior: pictures with a known power spectrum, for which everything has a closed form."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from envs.degradations.common import dct2, idct2, photo_power
from reward_actors.priors.base import linear_alphas


class GaussianPrior:
    """Models pictures as N(mean, power), independently per DCT-II frequency.

    Args:
        mean: (3, H, W) or broadcastable to it, on [-1, 1].
        power: (H, W) or (3, H, W), variance of each orthonormal DCT-II coefficient of x - mean.
    """

    def __init__(self, mean: Tensor, power: Tensor, device: str = "cpu"):
        self.alphas_cumprod = linear_alphas()
        self.device = torch.device(device)
        self.mean, self.power = mean.to(self.device).float(), power.to(self.device).float()
        digest = hashlib.sha256()
        for tensor in (self.mean, self.power):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Computes (x - sqrt(a) E[x0 | x]) / sqrt(1 - a) exactly; shapes as in `Prior.eps`."""
        a = self.alphas_cumprod[t.cpu()].float().to(x.device).reshape(-1, 1, 1, 1)
        gain = (1 - a).sqrt() / (a * self.power + 1 - a)
        return idct2(gain * dct2(x - a.sqrt() * self.mean))


def photo_gaussian(height: int, width: int | None = None, device: str = "cpu") -> GaussianPrior:
    """Builds the Gaussian with the mean spectrum of photographs and brightness spread by a standard deviation of .5.

    Args:
        height, width: pixels; one number makes a square.
    """
    width = width or height
    power = 4 * photo_power(height, width)
    power[0, 0] = 0.25 * height * width
    return GaussianPrior(torch.zeros(1, 1, 1), power, device)
