"""One step of the sampler that walks from a noisy picture to one that agrees with the data (DDNM, Wang et al., 2023).

With x_t the noisy picture, a_t the cumulative alpha, e the predicted noise, y = A x the data and s the noise level:

    (1)  x_0 = (x_t - sqrt(1 - a_t) e) / sqrt(a_t)                      the prior's estimate of the picture
    (2)  s = sqrt((1 - a_t) / a_t)                                      its standard deviation from the truth
    (3)  x_0h = argmin_x |x - x_0|^2 / s^2 + |A x - y|^2 / sigma_y^2    its projection onto the data
    (4)  d = e, or d = (x_t - sqrt(a_t) x_0h) / sqrt(1 - a_t)           the noise direction
    (5)  x_t' = sqrt(a_t') x_0h + sqrt(1 - a_t') (eta z + sqrt(1 - eta^2) d)
    (6)  x_t' = sqrt(a_t') x_0h

in place of (5) for a restorer that is `noise_free`: then (1) and (3) are half-quadratic splitting with the prior as
denoiser (DPIR, Zhang et al., 2021).

With all trust in the data, s -> infinity, (3) is DDNM's x_0 - A+ (A x_0 - y); with (2) it is DDNM+.
Pictures are noised on [-1, 1] and projected on [0, 1], where s is half as large.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from envs.degradations import physics, project
from envs.taxonomy import Degradation
from reward_actors.priors.base import linear_alphas
from reward_actors.restoration.presets import Restorer

DATA_TRUSTED = 1e3
"""A noise level so large that the range part comes from the data alone, as in DDNM without the plus."""


def schedule(restorer: Restorer, degradation: Degradation, noisy: bool = False) -> tuple[int, ...]:
    """Lists the timesteps of the denoiser calls, falling but where time travel goes back.

    Empty where the closed form is the answer: because the restorer makes no calls, or because the data fix every pixel
    and are trusted, so that no walk before the last projection would change it; not so if the data are `noisy`.
    """
    fixed = not noisy and not physics(degradation.type).has_null_space and (restorer.warm or not restorer.noise_aware)
    if restorer.steps == 0 or fixed:
        return ()
    span, first, last = max(1, restorer.steps - 1), restorer.first, restorer.last
    shares = [1 - i / span for i in range(restorer.steps)]
    if restorer.geometric:
        times = _geometric(first, last, shares)
    else:
        times = [round(last + (first - last) * share**restorer.curve) for share in shares]
    falling = tuple(dict.fromkeys(times))  # more steps than timesteps round to some of them twice
    if not restorer.travel:
        return falling
    stretches = [falling[i : i + restorer.travel] for i in range(0, len(falling), restorer.travel)]
    return tuple(t for stretch in stretches for t in stretch * restorer.repeats)


def _geometric(first: int, last: int, shares: Sequence[float]) -> list[int]:
    """Finds the timesteps nearest to a geometric series of noise levels, from that of `first` to that of `last`."""
    a = linear_alphas()
    levels = ((1 - a) / a).log()
    wanted = [levels[last] + (levels[first] - levels[last]) * share for share in shares]
    return [int((levels - level).abs().argmin()) for level in wanted]


def noise(sample_id: str, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Draws standard normal noise as a function of (sample_id, index): all completions of a picture share it.

    Args:
        shape: (samples, ...); every second sample is the negative of the one before.
    """
    seed = int.from_bytes(hashlib.sha256(f"{sample_id}/{index}".encode()).digest()[:7], "big")
    generator = torch.Generator(device=device).manual_seed(seed)
    pairs = (shape[0] + 1) // 2
    half = torch.randn(pairs, *shape[1:], generator=generator, device=device)
    return torch.stack([half, -half], dim=1).flatten(0, 1)[: shape[0]]


def step(
    x: Tensor,
    eps: Tensor,
    y: Tensor,
    degradations: Sequence[Degradation],
    restorers: Sequence[Restorer],
    a: Tensor,
    a_next: Tensor,
    z: Tensor,
    sigma_y: Tensor | None = None,
) -> Tensor:
    """Takes one step, equations (1) to (6), for rows that each have their own timestep, degradation and restorer.

    A step back in time (a_next <= a) noises x_0h with fresh noise alone, as eta 1 does.

    Args:
        x, eps, z: float32 (B, 3, H, W), noisy pictures on [-1, 1], their predicted noise, and fresh noise.
        y: float32 (B, 3, H, W), the degraded pictures on [0, 1].
        degradations, restorers: one a row.
        sigma_y: float32 (B,), standard deviation of the noise of y on [0, 1]; None is that of 8-bit rounding.
        a, a_next: float32 (B,), cumulative alphas now and after the step; a_next 1 ends the walk at x_0h.

    Returns:
        The pictures after the step, (B, 3, H, W) on [-1, 1].
    """

    def column(field: str) -> Tensor:
        return torch.tensor([float(getattr(restorer, field)) for restorer in restorers], device=a.device)

    eta = torch.where(a_next <= a, 1.0, column("eta")).reshape(-1, 1, 1, 1)
    noise_aware, clip = column("noise_aware").bool(), column("clip_to_data").bool().reshape(-1, 1, 1, 1)
    a, a_next = a.reshape(-1, 1, 1, 1), a_next.reshape(-1, 1, 1, 1)
    # (1), on [0, 1]
    unit = ((x - (1 - a).sqrt() * eps) / a.sqrt() + 1) / 2
    # (2)
    variance = ((1 - a) / a).flatten() / 4 / column("penalty")
    level = torch.where(noise_aware, variance.sqrt(), DATA_TRUSTED)
    # (3)
    unit = project(torch.where(clip, unit.clamp(0, 1), unit), y, degradations, level, sigma_y)
    x0 = 2 * torch.where(clip, unit.clamp(0, 1), unit) - 1
    # (4)
    direction = torch.where(clip, (x - a.sqrt() * x0) / (1 - a).sqrt(), eps)
    # (5), (6)
    moved = a_next.sqrt() * x0 + (1 - a_next).sqrt() * (eta * z + (1 - eta.square()).sqrt() * direction)
    return torch.where(column("noise_free").bool().reshape(-1, 1, 1, 1), a_next.sqrt() * x0, moved)
