"""Image-text models of other families, of their real classes with few layers and random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from envs.taxonomy import Taxonomy
from learner.policy.tiny import CHAT_TEMPLATE, build_tokenizer

SIZE = 56
"""Pixels a side of what the vision towers see."""
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
}


def build_llava(folder: Path) -> Path:
    """LLaVA-1.5: CLIP without its class token, a projector, Llama; one token a patch, a prompt that begins with <s>."""
    tokenizer = build_tokenizer(Taxonomy(()))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.convert_tokens_to_ids("<s>"))]
    )
    config = LlavaConfig(
        text_config={"model_type": "llama", "tie_word_embeddings": False, **TEXT, **_words(tokenizer)},
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": 14,
            "projection_dim": 32,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIZE // 14) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        dtype="float32",
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    file = folder / "model.safetensors"  # published checkpoints, which vLLM reads, have a level more in their names
    saved = {name.replace("vision_tower.", "vision_tower.vision_model."): w for name, w in load_file(file).items()}
    save_file(saved, file, {"format": "pt"})
    edge = {"height": SIZE, "width": SIZE}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=edge),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>"),
    ).save_pretrained(folder)
    return folder


def build_qwen25(folder: Path) -> Path:
    """Qwen2.5-VL: windows in its vision tower, positions of three axes."""
    tokenizer = build_tokenizer(Taxonomy(()))
    token = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={"rope_parameters": rope, "tie_word_embeddings": False, **TEXT, **_words(tokenizer)},
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "out_hidden_size": 64,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=False,
        dtype="float32",
    )
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    common = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    common |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    common |= {"size": {"shortest_edge": SIZE * SIZE, "longest_edge": 4 * SIZE * SIZE}}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**common),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _words(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


BACKBONES: dict[str, Callable[[Path], Path]] = {"llava": build_llava, "qwen2.5-vl": build_qwen25}
