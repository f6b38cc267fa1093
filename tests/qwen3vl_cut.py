"""A faithful cut of the published Qwen3-VL-8B: its classes, vocabulary, positions and deepstack, with random weights.

Published: hidden 4096, 36 text layers, 32 heads of 128, vision hidden 1152 in 27 layers; the rest is as here. The
tokenizer is ours, of some thousand tokens: the published table is padded too, by less.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from envs.taxonomy import Taxonomy
from learner.policy.tiny import CHAT_TEMPLATE, build_tokenizer

VOCABULARY = 151_936


def build_cut(
    folder: Path, tied: bool = False, hidden: int = 256, intermediate: int = 0, vocabulary: int = VOCABULARY
) -> Path:
    """Writes the model, which knows no answer tokens yet, as a Hugging Face folder.

    Args:
        tied: both embedding tables are one, as in the smaller published models.
        hidden: width of the language model. intermediate: of its MLPs; 0 is three times as wide.
        vocabulary: rows of the embedding tables.
    """
    tokenizer = build_tokenizer(Taxonomy(()))
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate or 3 * hidden,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262_144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
    }
    vision = {
        "depth": 27,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_heads": 4,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": hidden,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=tied,
        dtype="float32",
    )
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    pixels = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    common = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    common |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **common),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=pixels, **common),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder
