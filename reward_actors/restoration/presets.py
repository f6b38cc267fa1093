"""Restorers: named settings of one sampler that walks from noise to a picture true to the data (DDNM)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from configs import UserError
from envs.degradations import physics, project
from envs.taxonomy import Degradation
from reward_actors.priors.base import Prior

DATA_TRUSTED = 1e3
"""A noise level so large that the range part comes from the data alone, as in DDNM without the plus."""


@dataclass(frozen=True)
class Restorer:
    """How a picture is restored.

    steps: denoiser calls of one walk, no more than it has timesteps; 0 takes the closed form as it is.
    first, last: timesteps of the first and the last call.
    curve: 1 spaces the calls between evenly; above 1 they come closer together towards `last`.
    eta: share of fresh noise in each step (DDNM's eta).
    warm: begin at the closed form, noised to `first`; otherwise at pure noise.
    noise_aware: data are trusted in proportion to the noise left (DDNM+); otherwise always.
    draws: walks from different noise whose mean is the answer. Every second one mirrors the noise of the one
        before, so that already two lose the noise to first order.
    corrected: the noise direction comes from the projected estimate, clamped to [0, 1], not from the network.
    travel, repeats: time travel (DDNM, Algorithm 2): each stretch of `travel` steps is walked `repeats` times,
        from the projected estimate noised again to where the stretch began. 0 is off.
    """

    name: str
    steps: int
    first: int = 990
    last: int = 0
    curve: float = 1.0
    eta: float = 0.85
    warm: bool = False
    noise_aware: bool = False
    corrected: bool = False
    draws: int = 1
    travel: int = 0
    repeats: int = 1

    def fingerprint(self, prior: Prior) -> str:
        """Changes with anything that changes a restoration."""
        return hashlib.sha256(f"{sorted(asdict(self).items())} {prior.fingerprint}".encode()).hexdigest()[:16]


_WARM = {"eta": 0.0, "warm": True, "noise_aware": True, "corrected": True}
RESTORERS = {
    restorer.name: restorer
    for restorer in (
        Restorer("ddnm", steps=100),
        Restorer("ddnm_plus", steps=100, noise_aware=True),
        Restorer("fast", steps=1, first=30, last=30, draws=2, **_WARM),
        Restorer("few", steps=12, first=600, curve=2.0, warm=True),
        Restorer("average", steps=2, first=100, last=30, draws=4, **_WARM),
        Restorer("closed_form", steps=0),
    )
}


def restorer(name: str, steps: int = 0) -> Restorer:
    """A named restorer; steps 0 keeps its own number.

    Raises:
        UserError: no such name.
    """
    if name not in RESTORERS:
        raise UserError(f"reward.restorer={name}: expected one of {', '.join(RESTORERS)}")
    chosen = RESTORERS[name]
    if chosen.steps and steps not in (0, chosen.steps):
        last = chosen.first // steps if chosen.warm else chosen.last
        chosen = replace(chosen, steps=steps, last=last if steps > 1 else chosen.first)
    return chosen


def schedule(restorer: Restorer, degradation: Degradation) -> tuple[int, ...]:
    """Timesteps of the denoiser calls, falling but where time travel goes back; empty where the closed form is the
    answer: it has nothing to gain, or the data fix every pixel and are trusted, whatever the walk before.
    """
    fixed = not physics(degradation.type).has_null_space and (restorer.warm or not restorer.noise_aware)
    if restorer.steps == 0 or fixed:
        return ()
    span, first, last = max(1, restorer.steps - 1), restorer.first, restorer.last
    times = (round(last + (first - last) * (1 - i / span) ** restorer.curve) for i in range(restorer.steps))
    falling = tuple(dict.fromkeys(times))  # more steps than timesteps round to some of them twice
    if not restorer.travel:
        return falling
    stretches = [falling[i : i + restorer.travel] for i in range(0, len(falling), restorer.travel)]
    return tuple(t for stretch in stretches for t in stretch * restorer.repeats)


def noise(sample_id: str, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal noise, a function of (sample_id, index): all completions of a picture share it.

    shape: (draws, ...); odd draws are the negatives of those before them.
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
) -> Tensor:
    """One step of the sampler for rows that each have their own timestep, degradation and restorer.

    x0 = (x - sqrt(1-a) eps) / sqrt(a); x0h = its projection onto the data;
    x_next = sqrt(a_next) x0h + sqrt(1-a_next) (eta z + sqrt(1-eta^2) eps).
    A step back in time (a_next <= a) noises x0h with fresh noise alone, as eta 1 does.

    Args:
        x, eps, z: (B, 3, H, W), noisy picture on [-1, 1], its predicted noise, and fresh noise.
        y: (B, 3, H, W), the degraded picture on [0, 1].
        a, a_next: (B,) cumulative alphas now and after the step; a_next 1 ends the walk at x0h.
    """
    eta = torch.where(a_next <= a, 1.0, _column(restorers, "eta", a))
    a, a_next, eta = (column.reshape(-1, 1, 1, 1) for column in (a, a_next, eta))
    corrected = _column(restorers, "corrected", a).bool().reshape(-1, 1, 1, 1)
    level = torch.where(
        _column(restorers, "noise_aware", a).bool(), ((1 - a) / a).sqrt().flatten() / 2, DATA_TRUSTED
    )
    unit = ((x - (1 - a).sqrt() * eps) / a.sqrt() + 1) / 2
    unit = project(torch.where(corrected, unit.clamp(0, 1), unit), y, degradations, level)
    unit = torch.where(corrected, unit.clamp(0, 1), unit)
    x0 = 2 * unit - 1
    direction = torch.where(corrected, (x - a.sqrt() * x0) / (1 - a).sqrt(), eps)
    return a_next.sqrt() * x0 + (1 - a_next).sqrt() * (eta * z + (1 - eta.square()).sqrt() * direction)


def _column(restorers: Sequence[Restorer], field: str, like: Tensor) -> Tensor:
    return torch.tensor([float(getattr(r, field)) for r in restorers], device=like.device)
