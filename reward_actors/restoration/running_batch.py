"""Continuous batching of diffusion: rows at different timesteps share every denoiser call."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.degradations import closed_form
from envs.taxonomy import Degradation
from reward_actors.priors.base import Prior
from reward_actors.restoration.presets import Restorer, noise, schedule, step


@dataclass
class Row:
    """One restoration under way. y: (3, H, W) on [0, 1]; x: (draws, 3, H, W) on [-1, 1], None until it has begun.

    Without a degradation there is nothing to undo: x is y, and the row is finished from the start.
    """

    key: Hashable
    sample_id: str
    degradation: Degradation | None
    restorer: Restorer
    y: Tensor
    timesteps: tuple[int, ...]
    x: Tensor | None = None
    position: int = 0

    @property
    def draws(self) -> int:
        return self.restorer.draws if self.timesteps else 1

    def noise(self, index: int) -> Tensor:
        return noise(self.sample_id, index, (self.draws, *self.y.shape), self.y.device)

    @property
    def finished(self) -> bool:
        return self.x is not None and self.position == len(self.timesteps)


class RunningBatch:
    """The rows one actor restores at once. They enter by `add`; each leaves from the `step` that finishes it.

    What a row becomes depends on its picture, degradation and restorer only, not on its neighbours.
    """

    def __init__(self, prior: Prior, restorer: Restorer, capacity: int):
        self._prior, self._restorer, self.capacity = prior, restorer, capacity
        self._rows: list[Row] = []
        self.denoiser_seconds = 0.0
        self.image_steps = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def room(self) -> int:
        return self.capacity - len(self._rows)

    def add(
        self,
        key: Hashable,
        sample_id: str,
        degraded: np.ndarray,
        degradation: Degradation | None,
        restorer: Restorer | None = None,
    ) -> None:
        """Takes in one picture, uint8 (H, W, 3). `restorer` overrides the batch's own for this row.

        Raises:
            RuntimeError: there is no room.
        """
        if self.room <= 0:
            raise RuntimeError(f"the running batch holds its {self.capacity} rows already")
        restorer = restorer or self._restorer
        y = torch.tensor(degraded, device=self._prior.device).permute(2, 0, 1).contiguous().float() / 255
        timesteps, begun = (schedule(restorer, degradation), None) if degradation else ((), 2 * y[None] - 1)
        self._rows.append(Row(key, sample_id, degradation, restorer, y, timesteps, begun))

    @torch.inference_mode()
    def step(self) -> list[tuple[Hashable, np.ndarray]]:
        """Begins new rows, takes every row one step further, and returns those that are done.

        Returns:
            (key, restored) of each finished row, restored float32 (H, W, 3) in [0, 1].
        """
        for rows in _by_size([row for row in self._rows if row.x is None]):
            self._begin(rows)
        for rows in _by_size([row for row in self._rows if not row.finished]):
            self._advance(rows)
        done = [row for row in self._rows if row.finished]
        self._rows = [row for row in self._rows if not row.finished]
        return [(row.key, _picture(row.x)) for row in done]

    def _begin(self, rows: list[Row]) -> None:
        """Pure noise, or the closed form with the noise of the first timestep (none if no step follows)."""
        warm = [row for row in rows if row.restorer.warm or not row.timesteps]
        if warm:
            estimates = closed_form(torch.stack([row.y for row in warm]), [row.degradation for row in warm])
            for row, estimate in zip(warm, 2 * estimates - 1, strict=True):
                row.x = estimate[None]
        for row in rows:
            if not row.timesteps:
                continue
            z = row.noise(0)
            a = float(self._prior.alphas_cumprod[row.timesteps[0]])
            row.x = z if row.x is None else a**0.5 * row.x + (1 - a) ** 0.5 * z

    def _advance(self, rows: list[Row]) -> None:
        walks = [row for row in rows for _ in range(row.draws)]
        x, y = torch.cat([row.x for row in rows]), torch.stack([row.y for row in walks])
        t = torch.tensor([row.timesteps[row.position] for row in walks])
        started = time.perf_counter()
        eps = self._prior.eps(x, t.to(x.device))
        if x.is_cuda:
            torch.cuda.synchronize()
        self.denoiser_seconds += time.perf_counter() - started
        a = self._prior.alphas_cumprod[t]
        a_next = torch.stack([self._next_alpha(row) for row in walks])
        x = step(
            x, eps, y, [row.degradation for row in walks], [row.restorer for row in walks],
            a.float().to(x.device), a_next.float().to(x.device), torch.cat([_fresh(row) for row in rows]),
        )  # fmt: skip
        self.image_steps += len(walks)
        for row, moved in zip(rows, x.split([row.draws for row in rows]), strict=True):
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
) -> list[np.ndarray]:
    """Restores pictures here, without Ray: uint8 (H, W, 3) each -> float32 (H, W, 3) in [0, 1], in order."""
    batch = RunningBatch(prior, restorer, capacity)
    waiting = list(zip(range(len(degraded)), sample_ids, degraded, degradations, strict=True))[::-1]
    restored: dict[Hashable, np.ndarray] = {}
    while waiting or len(batch):
        while waiting and batch.room:
            batch.add(*waiting.pop())
        restored.update(batch.step())
    return [restored[i] for i in range(len(degraded))]


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """float (H, W, 3) in [0, 1] -> uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _by_size(rows: list[Row]) -> list[list[Row]]:
    sizes: dict[tuple, list[Row]] = {}
    for row in rows:
        sizes.setdefault(tuple(row.y.shape), []).append(row)
    return list(sizes.values())


def _fresh(row: Row) -> Tensor:
    """The noise of this step; drawn only where some of it is used."""
    now, *following = row.timesteps[row.position : row.position + 2]
    if not following or (row.restorer.eta == 0 and following[0] < now):
        return torch.zeros_like(row.x)
    return row.noise(row.position + 1)


def _picture(x: Tensor) -> np.ndarray:
    return ((x.mean(0) + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
