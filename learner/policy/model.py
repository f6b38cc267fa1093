"""The policy as the learner uses it: vision run once per distinct picture, the prompt once per group, and the head over
the vocabulary on completion tokens alone, in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AttentionInterface,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    Qwen3VLForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

from configs import UserError
from learner.policy.collator import Batch
from learner.policy.head import Read, read_in_pieces

MAX_LOGITS = 2**25
"""Logits that are computed at once, at most: 128 MiB in float32, and below 1 GiB with all that is made of them."""
_FLOAT32_ATTENTION = "sdpa_float32"


def _float32_attention(module, query, key, value, *arguments, **settings):
    """On CPUs the backward pass of attention takes five times as long in bfloat16 as in float32."""
    with torch.autocast(query.device.type, enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *arguments, **settings)


def _at_once(attention: nn.Module) -> Callable[..., torch.Tensor]:
    """Returns a `forward` of the vision tower's attention that sees all pictures in one call where they are equally
    large; the published one calls once a picture."""
    published = attention.forward

    def forward(hidden_states, cu_seqlens, position_embeddings=None, **settings):
        count, length = len(cu_seqlens) - 1, int(cu_seqlens[1])
        if count * length != len(hidden_states) or (cu_seqlens.diff() != length).any():
            return published(hidden_states, cu_seqlens, position_embeddings, **settings)
        parts = attention.qkv(hidden_states).reshape(len(hidden_states), 3, attention.num_heads, -1).unbind(1)
        turned = (*apply_rotary_pos_emb_vision(*parts[:2], *position_embeddings), parts[2])
        rows = (part.unflatten(0, (count, length)).transpose(1, 2) for part in turned)
        interface = AttentionInterface().get_interface(attention.config._attn_implementation, None)
        seen = interface(attention, *rows, attention_mask=None, scaling=attention.scaling, is_causal=False)[0]
        return attention.proj(seen.reshape(len(hidden_states), -1))

    return forward


AttentionInterface.register(_FLOAT32_ATTENTION, _float32_attention)
AttentionMaskInterface.register(_FLOAT32_ATTENTION, sdpa_mask)


class Policy(nn.Module):
    """Wraps a Qwen3-VL, or another image-text model; `model` is the Hugging Face module, whose parameter names are the
    checkpoint's."""

    def __init__(self, model: PreTrainedModel, autocast: bool = False, linear_patches: bool = False):
        """
        Args:
            autocast: run in bfloat16 over float32 weights.
            linear_patches: compute the patch embedding as the linear map it is (a convolution whose stride is
                its kernel), and the attention of pictures of one size in one call; faster on CPUs. Not under ZeRO-3,
                which gathers module by module, and of a Qwen3-VL alone.
        """
        super().__init__()
        self.model, self._autocast = model, autocast
        if autocast:
            model.set_attn_implementation(_FLOAT32_ATTENTION)
        if linear_patches and isinstance(model, Qwen3VLForConditionalGeneration):
            convolution = model.model.visual.patch_embed.proj
            model.model.visual.patch_embed.forward = lambda patches: F.linear(
                patches, convolution.weight.flatten(1), convolution.bias
            )
            for block in model.model.visual.blocks:
                block.attn.forward = _at_once(block.attn)

    def forward(
        self, batch: Batch, read: Read | None = None, *targets: torch.Tensor, pieces: int = 1, seen=None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Reads the logits of each completion token, given all before it.

        Args:
            read: what is wanted of the logits; None: they themselves, float32 (B, T, vocabulary).
            targets: (B, T, ...) each, what `read` gets beside them.
            pieces: the head runs over so many pieces of the real tokens, again in the backward pass; with 1 over all
                tokens at once, padding among them. The same number on every rank: ZeRO-3 gathers the head for each.
            seen: what `see` returned for the batch's pictures; computed here by default.

        Returns:
            What `read` returns, (B, T, ...) each; 0 on padding where there are several pieces.
        """
        with self.precision():
            hidden = self._hidden(batch, seen or self.see(batch))[batch.row[:, None], batch.before]
            if read is None:
                return self.model.lm_head(hidden).float()
            return read_in_pieces(self.model.lm_head, hidden, batch.mask, read, targets, pieces)

    def precision(self):
        """Returns the context in which the policy computes."""
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._autocast)

    def pieces(self, batch: Batch) -> int:
        """Counts the pieces that `forward` needs to keep to `MAX_LOGITS`."""
        rows = max(1, MAX_LOGITS // self.model.config.get_text_config().vocab_size)
        return 1 if batch.mask.numel() <= rows else max(2, -(-int(batch.mask.sum()) // rows))

    def see(self, batch: Batch):
        """Computes the vision features of the N pictures, and deepstack features where a model has them, each N tensors
        (tokens, hidden)."""
        with self.precision():
            shown = batch.shown
            return self.model.model.get_image_features(shown.pixel_values, **shown.vision, return_dict=True)

    def _hidden(self, batch: Batch, seen) -> torch.Tensor:
        """Last hidden states (R, L, hidden) of the rows."""
        order = batch.pictures.flatten().tolist()
        levels = getattr(seen, "deepstack_features", None)
        deepstack = {"deepstack_features": [[level[i] for i in order] for level in levels]} if levels else {}
        shown = type(seen)(pooler_output=[seen.pooler_output[i] for i in order], **deepstack)
        return self.model.model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids if len(batch.position_ids) > 1 else batch.position_ids[0],
            attention_mask=batch.attention,
            mm_encoder_outputs={"image": shown},
            use_cache=False,
        )[0]


def load_policy(folder: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"):
    """Opens a policy folder; the weights are read straight onto `device`.

    Returns:
        (the model in evaluation mode, its processor)

    Raises:
        UserError: the folder holds no policy.
    """
    folder = check_policy(folder)
    placed = {} if torch.device(device).type == "cpu" else {"device_map": {"": device}}
    open_model = AutoModelForImageTextToText.from_pretrained
    model = open_model(folder, dtype=dtype, use_safetensors=True, **placed).eval()
    return model, AutoProcessor.from_pretrained(folder)


def check_policy(folder: str | Path) -> Path:
    """Returns the folder; raises UserError if it holds no policy."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no policy: expected a Hugging Face folder with config.json and weights")
    return folder
