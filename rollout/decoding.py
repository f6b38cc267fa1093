"""Decoding a number, and the severity in words before it, as the median of its posterior, not as its likeliest bin.

By Proposition 4.1 the distribution over value tokens is a density on the grid. Its argmax jumps between bins of nearly
the same probability; its median minimises the expected absolute error. The severity comes first and confines the
number, so it is chosen likewise. Integers are classes, not densities, and stay the likeliest.
"""

from __future__ import annotations

import re

import torch
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import LogitsProcessor

from envs.answer import SEVERITY_WORDS

_VALUE = re.compile(r"\[V-(-?\d+\.(\d+))\]")


class MedianDecoding(LogitsProcessor):
    """Where the likeliest token is a value or a severity, leaves only the median of its kind (as many decimals).

    Loaded by engines that decode greedily (`rollout.decoding=median`), never by those that sample for RL.
    """

    def __init__(self, vllm_config, device: torch.device, is_pin_memory: bool):
        tokenizer = AutoTokenizer.from_pretrained(vllm_config.model_config.tokenizer)
        grids: dict[int, list[tuple[float, int]]] = {}
        for token, index in tokenizer.get_vocab().items():
            if match := _VALUE.fullmatch(token):
                grids.setdefault(len(match[2]), []).append((float(match[1]), index))
        scales = [[index for _, index in sorted(grid)] for grid in grids.values()]
        scales.append([tokenizer.encode(word, add_special_tokens=False)[0] for word in SEVERITY_WORDS])
        self._grids = [torch.tensor(scale, device=device) for scale in scales]

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update) -> None:
        """The logits say it all: there is no state."""

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """logits (B, vocabulary): in rows about to write a value, everything but the median becomes -inf."""
        best = logits.argmax(-1)
        for grid in self._grids:
            rows = torch.isin(best, grid).nonzero().flatten()
            if len(rows):
                logits[rows] = median_only(logits[rows], grid)
        return logits


def median_only(logits: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """logits (R, vocabulary), grid (N,) token ids by rising value -> the same, -inf but at each row's median token."""
    mass = logits[:, grid].float().softmax(-1).cumsum(-1)
    chosen = grid[(mass < 0.5).sum(-1).clamp(max=len(grid) - 1)]
    result = torch.full_like(logits, float("-inf"))
    return result.scatter(1, chosen[:, None], 0.0)
