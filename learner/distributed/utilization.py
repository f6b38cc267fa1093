"""Measures what share of the peak of its device a learner rank reaches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

from configs.cluster.profiling import peak


class Utilization:
    """Adds `mfu` to the metrics of a step: its floating-point operations a second, of those of a matrix product.

    Matrix products, convolutions and attention are counted in the first step, with what is padded and what is computed
    twice; later steps are taken to have as many for each token of the policy's rows.
    """

    def __init__(self, policy: torch.nn.Module, device: torch.device, dtype: torch.dtype):
        """policy: a `Policy`; its batches are counted. dtype: of its matrix products."""
        self._peak, self._tokens, self._each = peak(device, dtype), 0, 0.0
        policy.register_forward_pre_hook(self._count)

    def of(self, step: Callable[..., dict[str, float]], *arguments) -> dict[str, float]:
        """Takes a step that returns its metrics, `seconds` among them; returns them with `mfu`."""
        self._tokens = 0
        with nullcontext() if self._each else FlopCounterMode(display=False) as counter:
            metrics = step(*arguments)
        if counter and self._tokens:
            self._each = counter.get_total_flops() / self._tokens
        return metrics | {"mfu": self._tokens * self._each / metrics["seconds"] / self._peak}

    def _count(self, policy: torch.nn.Module, arguments: tuple) -> None:
        self._tokens += arguments[0].input_ids.numel()
