"""The policy as the learner uses it: logits of completion tokens, vision run once per distinct picture, the prompt
once per group."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from configs import UserError
from learner.policy.collator import Batch

_FLOAT32_ATTENTION = "sdpa_float32"


def _float32_attention(module, query, key, value, *arguments, **settings):
    """On CPUs the backward pass of attention takes five times as long in bfloat16 as in float32."""
    with torch.autocast(query.device.type, enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *arguments, **settings)


AttentionInterface.register(_FLOAT32_ATTENTION, _float32_attention)
AttentionMaskInterface.register(_FLOAT32_ATTENTION, sdpa_mask)


class Policy(nn.Module):
    """Wraps a Qwen3-VL; `model` is the Hugging Face module, whose parameter names are the checkpoint's."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, autocast: bool = False, linear_patches: bool = False):
        """
        Args:
            autocast: run in bfloat16 over float32 weights.
            linear_patches: compute the patch embedding as the linear map it is (a convolution whose stride is
                its kernel); three times faster on CPUs. Not under ZeRO-3, which gathers module by module.
        """
        super().__init__()
        self.model, self._autocast = model, autocast
        if autocast:
            model.set_attn_implementation(_FLOAT32_ATTENTION)
        if linear_patches:
            convolution = model.model.visual.patch_embed.proj
            model.model.visual.patch_embed.forward = lambda patches: F.linear(
                patches, convolution.weight.flatten(1), convolution.bias
            )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (B, T, vocabulary), float32: of each completion token given all before it."""
        return self.completion_logits(batch, self.see(batch))

    def see(self, batch: Batch):
        """Vision features of the N pictures, and deepstack features, each N tensors (tokens, hidden)."""
        with self._precision(batch):
            return self.model.model.get_image_features(batch.pixel_values, batch.image_grid_thw, return_dict=True)

    def completion_logits(self, batch: Batch, seen) -> torch.Tensor:
        """`forward` from vision features already computed."""
        order = batch.pictures.flatten().tolist()
        shown = type(seen)(
            pooler_output=[seen.pooler_output[i] for i in order],
            deepstack_features=[[level[i] for i in order] for level in seen.deepstack_features],
        )
        with self._precision(batch):
            hidden = self.model.model(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                attention_mask=batch.attention,
                mm_encoder_outputs={"image": shown},
                use_cache=False,
            )[0]
            return self.model.lm_head(hidden[batch.row[:, None], batch.before]).float()

    def _precision(self, batch: Batch):
        return torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self._autocast)


def load_policy(folder: str | Path, dtype: torch.dtype = torch.float32):
    """Opens a policy folder.

    Returns:
        (Qwen3VLForConditionalGeneration in evaluation mode, its processor)

    Raises:
        UserError: the folder holds no policy.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no policy: expected a Hugging Face folder with config.json and weights")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, use_safetensors=True).eval()
    processor: Qwen3VLProcessor = AutoProcessor.from_pretrained(folder)
    return model, processor
