"""Measures how many pictures the memory holds in the denoiser at once, before the first restoration."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import psutil
import torch

from configs.schema import Reward
from reward_actors.priors.base import Prior

SHARE = 0.8
"""Of the memory that is free for an actor, what its denoiser may take; the rest is for operators and scorers."""
FEW, MORE = 1, 4


@dataclass(frozen=True)
class Footprint:
    """Gives the bytes that a denoiser call takes beside the weights: `fixed`, and `per_row` for each picture."""

    fixed: int
    per_row: int

    def __str__(self) -> str:
        return f"{self.fixed / 2**20:.0f} MiB and {self.per_row / 2**20:.1f} MiB a picture"


def rows_within(budget: int, footprint: Footprint) -> int:
    """Counts the pictures that fit into `budget` bytes; 0 where not even one does."""
    return max(0, (budget - footprint.fixed) // footprint.per_row)


def budget(settings: Reward) -> int:
    """Computes the bytes one reward actor may fill: its share of the GPU, or of the free memory of this machine."""
    if settings.gpus:
        free, total = torch.cuda.mem_get_info()
        return int(SHARE * min(free, settings.gpus * total))
    return int(SHARE * psutil.virtual_memory().available / max(settings.actors, settings.max_actors))


@torch.inference_mode()
def measure(prior: Prior, size: int) -> Footprint:
    """Measures the footprint of `prior` at `size` px a side, from one call of 1 and one of 4 rows."""
    peak = _gpu_peak if prior.device.type == "cuda" else _cpu_peak
    few, more = (peak(prior, rows, size) for rows in (FEW, MORE))
    row = 3 * size * size * 4  # a row is at least a picture, its noise and its data
    per_row = max(3 * row, (more - few) // (MORE - FEW))
    return Footprint(max(0, few - FEW * per_row), per_row)


def _call(prior: Prior, rows: int, size: int) -> None:
    prior.eps(torch.zeros(rows, 3, size, size, device=prior.device), torch.zeros(rows, dtype=torch.int64))


def _gpu_peak(prior: Prior, rows: int, size: int) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _call(prior, rows, size)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _cpu_peak(prior: Prior, rows: int, size: int) -> int:
    """Measures the growth of resident memory, read every few milliseconds while the call runs."""
    process, done = psutil.Process(os.getpid()), threading.Event()
    before = process.memory_info().rss
    readings = []

    def watch() -> None:
        while not done.is_set():
            readings.append(process.memory_info().rss)
            time.sleep(3e-3)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    _call(prior, rows, size)
    done.set()
    watcher.join()
    return max(0, max(readings, default=before) - before)
