"""Greedy decoding inside the learner, to watch the policy while it trains (evaluation goes through vLLM)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
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
    sharded: bool = False,
) -> list[str]:
    """Decodes the likeliest answer to each image, token by token, with a cache of keys and values.

    Args:
        images: uint8 (H, W, 3), all of one size, so that their prompts are equally long.
        sharded: weights are gathered in every pass (ZeRO-3): ranks go on until the last of them has ended.

    Raises:
        ValueError: the images are of several sizes.
    """
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"expected images of one size, got {sorted({image.shape for image in images})}")
    end = tokenizer.eos_token_id
    batch = collate([Example(image.view(), (end,)) for image in images]).to(policy.model.device)
    prompt = batch.input_ids[:, :-1]
    kinds = {}
    if len(batch.position_ids) > 1:  # by these its positions are counted
        kinds["mm_token_type_ids"] = (prompt == policy.model.config.image_token_id).int()
    training = policy.model.training
    policy.model.eval()  # in training mode, with activations computed twice, there is no cache
    try:
        with policy.precision():
            ids = policy.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                pixel_values=batch.shown.pixel_values,
                **batch.shown.vision,
                **kinds,
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=end,
                synced_gpus=sharded,
            )
    finally:
        policy.model.train(training)
    rows = [row[prompt.shape[1] :].tolist() for row in ids]
    return [tokenizer.decode(row[: row.index(end)] if end in row else row) for row in rows]
