"""A Qwen3-VL of a few million parameters, built from config with random weights: the policy of the tiny track.

The same classes, processor and chat format as the 8B model, so that transformers, vLLM and DeepSpeed cannot tell.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from envs.language.answer import answer_tokens, severities
from envs.observation import QUESTION
from envs.taxonomy import Taxonomy

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HIDDEN, LAYERS, PATCH = 128, 4, 16


def build_tiny_policy(folder: Path, taxonomy: Taxonomy, size: int = 128, seed: int = 0) -> Path:
    """Writes a policy with random weights (model, tokenizer, processor, taxonomy) as a Hugging Face folder.

    Args:
        folder: where to; created.
        size: pixels a side of the views, a multiple of 32.
        seed: of the weights.
    """
    processor = build_processor(taxonomy, size)
    config = build_config(processor.tokenizer, size)
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    order_values(model, processor.tokenizer, taxonomy)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_tokenizer(taxonomy: Taxonomy) -> PreTrainedTokenizerFast:
    """Builds byte-level BPE whose merges cover the words of question and rationales, plus the answer tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [QUESTION, "user\n", "assistant\n", *severities(taxonomy)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(words * 2, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIAL})
    fast.add_tokens(answer_tokens(taxonomy))
    return fast


def build_processor(taxonomy: Taxonomy, size: int) -> Qwen3VLProcessor:
    """Builds the processor of views of `size` pixels a side, with the tokenizer of `taxonomy`."""
    pixels = {"shortest_edge": size * size, "longest_edge": size * size}
    common = {
        "patch_size": PATCH,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **common),
        tokenizer=build_tokenizer(taxonomy),
        video_processor=Qwen3VLVideoProcessor(size=pixels, **common),
        chat_template=CHAT_TEMPLATE,
    )


def build_config(tokenizer: PreTrainedTokenizerFast, size: int) -> Qwen3VLConfig:
    """Builds the configuration: a few million parameters, the published classes and chat format."""
    token = tokenizer.convert_tokens_to_ids
    vocabulary = math.ceil(len(tokenizer) / 64) * 64
    text = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 1024,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
    }
    vision = {
        "depth": 4,
        "hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": (size // PATCH) ** 2,
        "deepstack_visual_indexes": [1, 2],
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=False,
        dtype="float32",
    )


@torch.no_grad()
def order_values(
    model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, taxonomy: Taxonomy
) -> None:
    """Initialises the value tokens, in and out, as smooth curves along each key's grid.

    Neighbouring values begin as neighbours, so that what is learned of one bin is learned of those beside it: the
    density on the grid of Proposition 4.1 from the first step. Scaled to the spread of the other embeddings.
    """
    tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    for decimals in {key.decimals for key in taxonomy.keys.values()}:
        keys = [key for key in taxonomy.keys.values() if key.decimals == decimals]
        numbers = sorted({number for key in keys for number in key.grid()})
        ids = tokenizer.convert_tokens_to_ids([keys[0].token_of(number) for number in numbers])
        position = torch.arange(len(numbers), dtype=torch.float32)[:, None]
        frequency = 2 * math.pi / torch.logspace(math.log10(8), math.log10(4096), tables[0].shape[1] // 2)
        curve = torch.cat([(position * frequency).sin(), (position * frequency).cos()], 1) * math.sqrt(2)
        for table in tables:
            table[ids] = (curve * table.float().std()).to(table.dtype)
