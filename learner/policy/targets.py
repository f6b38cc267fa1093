"""What SFT wants the policy to say: answers as token ids, with ordinal neighbours of each value token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from envs.language.answer import write
from envs.taxonomy import Degradation, Taxonomy


@dataclass(frozen=True)
class Targets:
    """Holds soft targets of B completions of T tokens over K alternatives; plain cross-entropy has K = 1."""

    ids: torch.Tensor  # int64 (B, T, K)
    weights: torch.Tensor  # float32 (B, T, K), sums to 1 over K on completion tokens and to 0 on padding


class AnswerLanguage:
    """Writes answers as tokens of one tokenizer, and knows which value tokens are neighbours of which."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        taxonomy: Taxonomy,
        rationale: bool = True,
        smooth: float = 0.0,
    ):
        """
        Args:
            rationale: answers begin with words.
            smooth: standard deviation, in bins, of a Gaussian over neighbouring bins of the same key (the
                density on the grid of Proposition 4.1); 0 puts all weight on the true bin.
        """
        self._tokenizer, self._taxonomy = tokenizer, taxonomy
        self._rationale, self._smooth = rationale, smooth
        of = tokenizer.convert_tokens_to_ids
        self._bins = {
            of(f"[K-{key.name}]"): of([key.token_of(n) for n in key.grid()]) for key in taxonomy.keys.values()
        }
        whole = {of(f"[K-{key.name}]") for key in taxonomy.keys.values() if key.step >= 1}  # classes: no neighbours
        self._place = {
            k: {token: i for i, token in enumerate(bins)} for k, bins in self._bins.items() if k not in whole
        }

    def completion(self, degradation: Degradation, picture: np.ndarray | None = None) -> tuple[int, ...]:
        """Returns the token ids of the perfect answer, end-of-turn token last.

        picture: the degraded one, uint8 (H, W, 3), where answers begin with what is seen in it.
        """
        text = write(degradation, self._taxonomy, self._rationale, picture)
        return (*self._tokenizer(text, add_special_tokens=False)["input_ids"], self._tokenizer.eos_token_id)

    def targets(self, completions: Sequence[Sequence[int]]) -> Targets:
        """Spreads the weight of each value token over its neighbours; all other tokens are their only target."""
        reach = int(3 * self._smooth + 0.999)
        width = max(len(completion) for completion in completions)
        ids = torch.zeros(len(completions), width, 2 * reach + 1, dtype=torch.int64)
        weights = torch.zeros(ids.shape)
        for row, completion in enumerate(completions):
            bins: list[int] = []
            place: dict[int, int] = {}
            for position, token in enumerate(completion):
                if token in self._bins:
                    bins, place = self._bins[token], self._place.get(token, {})
                if reach and token in place:
                    near = range(max(0, place[token] - reach), min(len(bins), place[token] + reach + 1))
                    density = torch.tensor(
                        [-0.5 * ((i - place[token]) / self._smooth) ** 2 for i in near]
                    ).softmax(0)
                    ids[row, position, : len(near)] = torch.tensor([bins[i] for i in near])
                    weights[row, position, : len(near)] = density
                else:
                    ids[row, position, 0], weights[row, position, 0] = token, 1
        return Targets(ids, weights)


def target_logprobs(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor]:
    """Reads the log-probabilities of K alternatives: logits (..., V), ids int64 (..., K) -> (..., K)."""
    return (logits.log_softmax(-1).gather(-1, ids),)


def sft_loss(logprobs: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Sums the cross-entropy over completion tokens (divide by their number): `target_logprobs` (B, T, K) -> scalar."""
    return -(targets.weights.to(logprobs.device) * logprobs).sum()
