"""What actors measure of themselves: traces of torch's profiler, seconds of a call, and the peak of their device."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

CALLS = 5


class Tracer:
    """Writes what a thread computes for a while as a trace that Perfetto and chrome://tracing open."""

    def __init__(self):
        self._profile: torch.profiler.profile | None = None

    def turn(self, folder: str, name: str) -> None:
        """Begins a trace of the calling thread, or ends the one that the same thread has begun.

        Args:
            folder: empty to begin; where NAME.json.gz is written at the end. Without a beginning nothing is.
        """
        if not folder:
            self._profile = torch.profiler.profile()
            self._profile.start()
        elif self._profile is not None:
            profile, self._profile = self._profile, None
            profile.stop()
            Path(folder).mkdir(parents=True, exist_ok=True)
            profile.export_chrome_trace(str(Path(folder, f"{name}.json.gz")))


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Measures the median seconds of a call after two to warm up (compiling, choosing kernels)."""
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


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the FLOP/s of a square matrix product, large on a GPU: what no network there exceeds by much."""
    side = 8192 if device.type == "cuda" else 256
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: left @ right, device)
