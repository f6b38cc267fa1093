"""Greedy decoding inside the learner, to watch the policy while it trains (evaluation goes through vLLM)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerBase

from learner.policy.collator import Collator, Example
from learner.policy.model import Policy


@torch.no_grad()
def greedy(
    policy: Policy,
    collate: Collator,
    tokenizer: PreTrainedTokenizerBase,
    images: Sequence[np.ndarray],
    max_tokens: int,
    device: torch.device,
) -> list[str]:
    """The likeliest answer to each uint8 (H, W, 3) image, token by token.

    Vision runs once, the language model anew for every token: answers are short. device: of the policy.

    Every rank makes the same number of passes, so that sharded weights can be gathered in them.
    """
    end = tokenizer.eos_token_id
    batch = collate([Example(image, (end,)) for image in images])
    seen, none = policy.see(batch.to(device)), batch.pixel_values[:0]
    found: list[list[int]] = [[] for _ in images]
    while len(found[0]) < max_tokens and not _everywhere(all(end in row for row in found), device):
        drafts = [[[*row, end]] for row in found]  # whatever stands last is what is asked for
        draft = collate.batch(none, batch.image_grid_thw, batch.pictures[batch.row], drafts)
        choice = policy.completion_logits(draft.to(device), seen)[:, -1].argmax(-1).tolist()
        for row, token in zip(found, choice, strict=True):
            row.append(token)
    return [tokenizer.decode(row[: row.index(end)] if end in row else row) for row in found]


def _everywhere(here: bool, device: torch.device) -> bool:
    """Whether it holds on every rank; alone, whether it holds here. device: one that the ranks' group takes."""
    if not dist.is_initialized():
        return here
    flag = torch.tensor(int(here), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)
