"""Making a policy of a vision-language model that does not know our answers yet: the start of the paper's SFT."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from configs import UserError
from configs.schema import World
from envs.language.answer import answer_tokens
from envs.world import world_taxonomy, write_world
from learner.policy.tiny import order_values

MULTIPLE = 64
"""Rows of the embedding tables come in multiples of this, as matrix products like them."""


def adopt(folder: Path, out: Path, world: World) -> Path:
    """Writes the Qwen3-VL of `folder`, with the answer tokens of `world`, to `out`, and returns that.

    New rows of the embeddings begin as the mean of the old ones, those of values as smooth curves along their grids
    (`order_values`); everything else stays as it is.

    Raises:
        UserError: `folder` holds no Qwen3-VL.
    """
    try:
        model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype="auto", local_files_only=True)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"policy={folder}: expected a Qwen3-VL as a Hugging Face folder: {str(error)[:200]}") from None
    taxonomy = world_taxonomy(world)
    processor.tokenizer.add_tokens(answer_tokens(taxonomy))
    needed = max(len(processor.tokenizer), model.get_input_embeddings().num_embeddings)
    with torch.no_grad():
        model.resize_token_embeddings(needed, pad_to_multiple_of=MULTIPLE)
    order_values(model, processor.tokenizer, taxonomy)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    write_world(out, world)
    return out
