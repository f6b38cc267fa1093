"""The noise schedule that all priors here share."""

from __future__ import annotations

import torch

TIMESTEPS = 1000
BETAS = 1e-4, 0.02


def linear_alphas(timesteps: int = TIMESTEPS) -> torch.Tensor:
    """Cumulative alphas of linear betas 1e-4 .. 0.02: float64 (T,)."""
    return torch.cumprod(1 - torch.linspace(*BETAS, timesteps, dtype=torch.float64), 0)
