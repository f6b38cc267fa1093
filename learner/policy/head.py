"""The head over the vocabulary, in pieces: logits of a whole batch would not fit. Needs PyTorch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Read = Callable[..., tuple[torch.Tensor, ...]]
"""Reads logits: (logits float32 (n, vocabulary), *targets (n, ...)) -> tensors (n, ...), row by row."""


def read_in_pieces(
    head: nn.Module,
    hidden: torch.Tensor,
    mask: torch.Tensor,
    read: Read,
    targets: tuple[torch.Tensor, ...],
    pieces: int,
) -> tuple[torch.Tensor, ...]:
    """Applies `read` to the logits of hidden states (B, T, hidden); see `Policy.forward` for the other arguments.

    mask: float32 (B, T), 1 on real tokens.
    """
    shape = mask.shape
    flat, targets = hidden.flatten(0, 1), tuple(target.flatten(0, 1) for target in targets)

    def piece(states: torch.Tensor, *wanted: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return read(head(states).float(), *wanted)

    if pieces == 1:
        return tuple(result.unflatten(0, shape) for result in piece(flat, *targets))
    real = mask.flatten().nonzero().squeeze(1).to(flat.device)
    parts = [
        checkpoint(piece, flat[where], *(target[where] for target in targets), use_reentrant=False)
        for where in real.tensor_split(pieces)
    ]
    results = [torch.cat(part) for part in zip(*parts, strict=True)]
    blank = [result.new_zeros(mask.numel(), *result.shape[1:]) for result in results]
    return tuple(
        zeros.index_copy(0, real, result).unflatten(0, shape) for zeros, result in zip(blank, results, strict=True)
    )
