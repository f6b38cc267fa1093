"""Continuous batching of diffusion: restorations at different timesteps share every denoiser call."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.degradations import closed_form, estimate_noise
from envs.degradations.common import QUANTISATION
from envs.taxonomy import Degradation
from reward_actors.priors.base import Prior
from reward_actors.priors.total_variation import TotalVariationPrior
from reward_actors.restoration.presets import Restorer
from reward_actors.restoration.sampler import noise, schedule, step

NOISY = 1.5 * QUANTISATION
"""Noise above which data that fix every pixel are not taken at their word."""


@dataclass
class Row:
    """Holds one restoration under way.

    y: float32 (3, H, W) on [0, 1], the degraded picture.
    sigma_y: float32 (1,), standard deviation of its noise; None is that of 8-bit rounding.
    x: float32 (num_samples, 3, H, W) on [-1, 1]; None until the first step. Without a degradation there is nothing to
        undo: x is y, and the row is finished from the start.
    position: index of the next timestep.
    """

    key: Hashable
    sample_id: str
    degradation: Degradation | None
    restorer: Restorer
    y: Tensor
    timesteps: tuple[int, ...]
    sigma_y: Tensor | None = None
    x: Tensor | None = None
    position: int = 0

    @property
    def num_samples(self) -> int:
        return self.restorer.num_samples if self.timesteps else 1

    @property
    def finished(self) -> bool:
        return self.x is not None and self.position == len(self.timesteps)

    def noise(self, index: int) -> Tensor:
        return noise(self.sample_id, index, (self.num_samples, *self.y.shape), self.y.device)

    def step_noise(self) -> Tensor:
        """Draws the fresh noise of this step; zeros where none of it is used."""
        now, *following = self.timesteps[self.position : self.position + 2]
        if not following or self.restorer.noise_free or (self.restorer.eta == 0 and following[0] < now):
            return torch.zeros_like(self.x)
        return self.noise(self.position + 1)

    def picture(self) -> np.ndarray:
        """Averages the samples: float32 (H, W, 3) in [0, 1]."""
        return ((self.x.mean(0) + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy()


class RunningBatch:
    """Restores the pictures of one actor together. They enter by `add`; each leaves from the `step` that finishes it.

    What becomes of a picture depends on it, its degradation and its restorer only, not on its neighbours.

    noise: what noise the degraded pictures have: `rounding`, that of 8 bits, or `estimated`, from each picture.
    denoiser_seconds, image_steps: time spent in the prior, and pictures that went through it, since the start.
    """

    def __init__(self, prior: Prior, restorer: Restorer, capacity: int, noise: str = "rounding"):
        self._prior = prior
        self._total_variation = TotalVariationPrior(prior.device)
        self._restorer = restorer
        self.capacity = capacity
        self._noise = noise
        self._rows: list[Row] = []
        self.denoiser_seconds = 0.0
        self.image_steps = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def slots(self) -> int:
        """How many more pictures may enter."""
        return self.capacity - len(self._rows)

    def add(
        self,
        key: Hashable,
        sample_id: str,
        degraded: np.ndarray,
        degradation: Degradation | None,
        restorer: Restorer | None = None,
        sigma_y: float | None = None,
    ) -> None:
        """Takes in one picture.

        Args:
            key: what `step` returns the picture under.
            sample_id: whose noise is used.
            degraded: uint8 (H, W, 3).
            degradation: what is to be undone; None leaves the picture as it is.
            restorer: overrides the batch's own for this picture.
            sigma_y: standard deviation of its noise on [0, 1], where it is known; otherwise as `noise` says.

        Raises:
            RuntimeError: there is no free slot.
        """
        if self.slots <= 0:
            raise RuntimeError(f"the running batch holds its {self.capacity} rows already")
        restorer = restorer or self._restorer
        y = torch.tensor(degraded, device=self._prior.device).permute(2, 0, 1).contiguous().float() / 255
        if degradation is None:
            self._rows.append(Row(key, sample_id, None, restorer, y, (), x=2 * y[None] - 1))
            return
        if sigma_y is not None:
            noise = torch.tensor([sigma_y], device=y.device)
        else:
            noise = estimate_noise(y[None], [degradation]) if self._noise == "estimated" else None
        timesteps = schedule(restorer, degradation, noise is not None and float(noise) > NOISY)
        self._rows.append(Row(key, sample_id, degradation, restorer, y, timesteps, noise))

    @torch.inference_mode()
    def step(self) -> list[tuple[Hashable, np.ndarray]]:
        """Begins new rows, takes every row one step further, and returns those that are done.

        Returns:
            (key, restored) of each finished row, restored float32 (H, W, 3) in [0, 1].
        """
        for rows in _by_size([row for row in self._rows if row.x is None]):
            self._begin(rows)
        for denoiser, prior in (("prior", self._prior), ("total_variation", self._total_variation)):
            for rows in _by_size([r for r in self._rows if not r.finished and r.restorer.denoiser == denoiser]):
                self._advance(rows, prior)
        done = [row for row in self._rows if row.finished]
        self._rows = [row for row in self._rows if not row.finished]
        return [(row.key, row.picture()) for row in done]

    def _begin(self, rows: list[Row]) -> None:
        """Starts from pure noise, or from the closed form with the noise of the first timestep (none if no step
        follows)."""
        warm = [row for row in rows if row.restorer.warm or not row.timesteps]
        if warm:
            y, degradations = torch.stack([row.y for row in warm]), [row.degradation for row in warm]
            estimates = closed_form(y, degradations, _noise_of(warm))
            for row, estimate in zip(warm, 2 * estimates - 1, strict=True):
                row.x = estimate[None]
        for row in rows:
            if row.timesteps:
                a = float(self._prior.alphas_cumprod[row.timesteps[0]])
                if row.restorer.noise_free:
                    row.x = a**0.5 * row.x
                    continue
                z = row.noise(0)
                row.x = z if row.x is None else a**0.5 * row.x + (1 - a) ** 0.5 * z

    def _advance(self, rows: list[Row], prior: Prior) -> None:
        walks = [row for row in rows for _ in range(row.num_samples)]
        x, y = torch.cat([row.x for row in rows]), torch.stack([row.y for row in walks])
        t = torch.tensor([row.timesteps[row.position] for row in walks])
        started = time.perf_counter()
        eps = prior.eps(x, t.to(x.device))
        if x.is_cuda:
            torch.cuda.synchronize()
        self.denoiser_seconds += time.perf_counter() - started
        self.image_steps += len(walks)
        a = self._prior.alphas_cumprod[t]
        a_next = torch.stack([self._next_alpha(row) for row in walks])
        z = torch.cat([row.step_noise() for row in rows])
        degradations, restorers = [row.degradation for row in walks], [row.restorer for row in walks]
        a, a_next = a.float().to(x.device), a_next.float().to(x.device)
        x = step(x, eps, y, degradations, restorers, a, a_next, z, _noise_of(walks))
        for row, moved in zip(rows, x.split([row.num_samples for row in rows]), strict=True):
            row.x = moved
            row.position += 1

    def _next_alpha(self, row: Row) -> Tensor:
        following = row.position + 1
        if following == len(row.timesteps):
            return torch.ones((), dtype=torch.float64)
        return self._prior.alphas_cumprod[row.timesteps[following]]


def restore_batch(
    prior: Prior,
    restorer: Restorer,
    degraded: Sequence[np.ndarray],
    degradations: Sequence[Degradation],
    sample_ids: Sequence[str],
    capacity: int = 16,
    noise: str = "rounding",
    sigma_y: float | None = None,
) -> list[np.ndarray]:
    """Restores pictures in this process, without Ray.

    Args:
        degraded: uint8 (H, W, 3) each; degradations, sample_ids: one a picture.
        capacity: pictures that step together. noise: as in `RunningBatch`.
        sigma_y: standard deviation of the noise of all of them, where it is known.

    Returns:
        float32 (H, W, 3) in [0, 1] each, in order.
    """
    batch = RunningBatch(prior, restorer, capacity, noise)
    waiting = list(zip(range(len(degraded)), sample_ids, degraded, degradations, strict=True))[::-1]
    restored: dict[Hashable, np.ndarray] = {}
    while waiting or len(batch):
        while waiting and batch.slots:
            batch.add(*waiting.pop(), sigma_y=sigma_y)
        restored.update(batch.step())
    return [restored[i] for i in range(len(degraded))]


def _noise_of(rows: Sequence[Row]) -> Tensor | None:
    if all(row.sigma_y is None for row in rows):
        return None
    rounding = rows[0].y.new_full((1,), QUANTISATION)
    return torch.cat([rounding if row.sigma_y is None else row.sigma_y for row in rows])


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Rounds float (H, W, 3) in [0, 1] to uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _by_size(rows: list[Row]) -> list[list[Row]]:
    sizes: dict[tuple, list[Row]] = {}
    for row in rows:
        sizes.setdefault(tuple(row.y.shape), []).append(row)
    return list(sizes.values())
