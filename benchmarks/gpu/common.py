"""What the parts share: the device, times, the ceiling that matrix products set."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

CALLS = 5


class SkippedError(Exception):
    """Says why a part cannot run here."""


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Measures the median seconds of a call after two to warm up."""
    taken = []
    for _ in range(CALLS + 2):
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return sorted(taken[2:])[CALLS // 2]


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops(call: Callable[[], object]) -> int:
    """Counts the floating-point operations of a call: matrix products, convolutions, attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def ceiling(device: torch.device, dtype: torch.dtype, side: int = 0) -> float:
    """Measures the FLOP/s of a square matrix product: what no network on this device exceeds by much.

    side: of the matrices; 0: large on a GPU, small on a CPU.
    """
    side = side or (8192 if device.type == "cuda" else 256)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: left @ right, device)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Measures how far a call raises the allocated memory of a GPU; 0 on a CPU, where nobody counts."""
    if device.type != "cuda":
        call()
        return 0
    synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
