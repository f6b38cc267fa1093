"""What every diffusion prior has in common: its interface and its noise schedule.

A prior looks at a noisy picture and says which part of it is noise; it knows no degradations.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

TIMESTEPS = 1000
BETAS = 1e-4, 0.02
SCHEDULE = {
    "beta_schedule": "linear",
    "beta_start": BETAS[0],
    "beta_end": BETAS[1],
    "trained_betas": None,
    "num_train_timesteps": TIMESTEPS,
    "prediction_type": "epsilon",
}
"""The noise schedule of every prior here, as the configuration of a diffusers scheduler."""


class Prior(Protocol):
    """Predicts the noise in noisy pictures.

    alphas_cumprod: float64 (T,), the share of signal variance left at timestep t.
    fingerprint: 16 hex digits that change with the weights; scores are remembered under it.
    """

    alphas_cumprod: Tensor
    fingerprint: str
    device: torch.device

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicts the noise, float32 (B, 3, H, W).

        Args:
            x: float32 (B, 3, H, W), pictures on [-1, 1] with noise.
            t: int64 (B,), timesteps, 0 .. T - 1.
        """
        ...


def linear_alphas(timesteps: int = TIMESTEPS) -> Tensor:
    """Computes the cumulative alphas of linear betas 1e-4 .. 0.02: float64 (T,)."""
    return torch.cumprod(1 - torch.linspace(*BETAS, timesteps, dtype=torch.float64), 0)
