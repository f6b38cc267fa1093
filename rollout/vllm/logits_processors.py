"""Decodes a number as the median or mean of its posterior, not as its likeliest bin; the severity likewise.

By Proposition 4.1 the distribution over value tokens is a density on the grid. Its argmax jumps between bins of nearly
the same probability; its median minimises the expected absolute error, its mean the expected squared error. Both are
taken over the grid of the key that is being answered: what leaks into values of other keys would pull them away.
The severity in words comes first and confines the number; it is an ordinal class, and its median is chosen.
Integers are classes, not densities, and stay the likeliest.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import torch
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from configs.schema import World
from envs.language.vocabulary import AnswerTokens
from envs.world import FILE, world_taxonomy


class MedianDecoding(AdapterLogitsProcessor):
    """Leaves only the median over a key's grid where the likeliest token is a value of the key last written.

    Loaded by the engines of an evaluation (`rollout.decoding`), never by those that sample for RL; an answer that is
    drawn there, at a temperature, is left alone. It runs after a grammar has ruled out tokens. The taxonomy is that of
    the world.json in the policy's folder.
    """

    def __init__(self, vllm_config, device: torch.device, is_pin_memory: bool):
        super().__init__(vllm_config, device, is_pin_memory)
        card = json.loads((Path(vllm_config.model_config.model) / FILE).read_text())
        world = World(**{field.name: card[field.name] for field in fields(World) if field.name in card})
        tokenizer = AutoTokenizer.from_pretrained(vllm_config.model_config.tokenizer)
        taxonomy = world_taxonomy(world)
        self._tokens = AnswerTokens.of(tokenizer, taxonomy)
        self._grids = {
            name: (torch.tensor(tokens, device=device), torch.tensor(list(taxonomy.keys[name].grid()), device=device))
            for name, tokens in self._tokens.values.items()
            if not taxonomy.keys[name].is_class
        }
        self._severities = torch.tensor([word[0] for word in self._tokens.severities], device=device)

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params):
        return None if params.temperature > 0 else self._decode

    def choose(self, probabilities: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """Chooses a bin: its index in a density (N,) over the values `grid` (N,)."""
        return median(probabilities)

    def _decode(self, written: list[int], logits: torch.Tensor) -> torch.Tensor:
        """Leaves of the logits (vocabulary,) after `written` only the chosen value, where the likeliest is a value."""
        key = next((self._tokens.keys[token] for token in reversed(written) if token in self._tokens.keys), None)
        best = logits.argmax()
        if key in self._grids and (best == self._grids[key][0]).any():
            tokens, grid = self._grids[key]
            return only(logits, tokens[self.choose(logits[tokens].float().softmax(-1), grid)])
        if (best == self._severities).any():
            return only(logits, self._severities[median(logits[self._severities].float().softmax(-1))])
        return logits


class MeanDecoding(MedianDecoding):
    """Leaves only the grid point nearest to the mean; otherwise as `MedianDecoding`."""

    def choose(self, probabilities: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return nearest_to_mean(probabilities, grid)


def median(probabilities: torch.Tensor) -> torch.Tensor:
    """Returns the index of the first bin of a density (N,) up to which half of the mass lies."""
    reached = probabilities.cumsum(-1) < 0.5
    return reached.sum().clamp(max=len(probabilities) - 1)


def nearest_to_mean(probabilities: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Returns the index of the bin nearest to the expectation of a density (N,) over the values `grid` (N,)."""
    return (grid - probabilities @ grid).abs().argmin()


def only(logits: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """Returns logits of the same shape that are -inf but at one token."""
    return torch.full_like(logits, float("-inf")).index_fill_(0, token.reshape(1), 0.0)
