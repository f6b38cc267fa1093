"""Measures what share of the peak of its device a learner rank reaches."""

from __future__ import annotations

from collections.abc import Callable

import torch

from configs.cluster.profiling import peak


class Utilization:
    """Adds `mfu` to the metrics of a step: its floating-point operations a second, of those of a matrix product.

    Operations are estimated as usual: for each token of the policy's rows, two in the forward pass and two in the
    backward pass for each weight, and two more for each that is trained. Counted by PyTorch they would be exact, but a
    step that is counted ends with other last bits than one that is not.
    """

    def __init__(self, policy: torch.nn.Module, device: torch.device, dtype: torch.dtype):
        """policy: a `Policy`; its batches are counted. dtype: of its matrix products."""
        self._peak, self._tokens = peak(device, dtype), 0
        sizes = [(getattr(each, "ds_numel", each.numel()), each.requires_grad) for each in policy.parameters()]
        self._each = sum(size * (6 if trained else 4) for size, trained in sizes)
        policy.register_forward_pre_hook(self._count)

    def of(self, step: Callable[..., dict[str, float]], *arguments) -> dict[str, float]:
        """Takes a step that returns its metrics, `seconds` among them; returns them with `mfu`."""
        self._tokens = 0
        metrics = step(*arguments)
        return metrics | {"mfu": self._tokens * self._each / metrics["seconds"] / self._peak}

    def _count(self, policy: torch.nn.Module, arguments: tuple) -> None:
        self._tokens += arguments[0].input_ids.numel()
