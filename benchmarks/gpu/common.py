"""What the parts share: why one cannot run, operations, peaks of memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from configs.cluster.profiling import synchronize


class SkippedError(Exception):
    """Says why a part cannot run here."""


def flops(call: Callable[[], object]) -> int:
    """Counts the floating-point operations of a call: matrix products, convolutions, attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


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
