"""A learner's step on a cut of Qwen3-VL-8B: four text layers of the true width with its vocabulary, in bfloat16.

Forward and backward pass of a row of tokens and AdamW's step: seconds, share of the ceiling (MFU), and the memory that
activations take beside what `rollout.policy_shape` predicts.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.gpu.common import flops, peak_bytes
from configs.cluster.profiling import peak, seconds, synchronize
from rollout.policy_shape import PUBLISHED, PolicyShape

LAYERS = 4
SMALL = replace(
    PUBLISHED, vocabulary=512, hidden=64, queries=64, keys=32, head=32, intermediate=128, layers=LAYERS
)  # fmt: skip


def text_model(shape: PolicyShape, device: torch.device, dtype: torch.dtype):
    """Builds the language model of a Qwen3-VL with random weights on `device`."""
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

    section = shape.head // 2 - 2 * (shape.head // 6)
    config = Qwen3VLTextConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.queries // shape.head,
        num_key_value_heads=shape.keys // shape.head,
        head_dim=shape.head,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [section, shape.head // 6, shape.head // 6],
            "mrope_interleaved": True,
        },
    )
    torch.manual_seed(0)
    with torch.device(device):
        return Qwen3VLTextModel._from_config(config, dtype=dtype)


def run(device: torch.device, small: bool) -> dict[str, float]:
    """Measures the step. Returns seconds, TFLOP, MFU and GB."""
    shape, tokens = (SMALL, 32) if small else (replace(PUBLISHED, layers=LAYERS), 1024)
    dtype = torch.bfloat16
    model = text_model(shape, device, dtype)
    head = torch.nn.Linear(shape.hidden, shape.vocabulary, bias=False, device=device, dtype=dtype)
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=device.type == "cuda")
    ids = torch.randint(0, shape.vocabulary, (1, tokens), device=device)
    kept: list[torch.Tensor] = []

    def forward() -> None:
        hidden = model(input_ids=ids, use_cache=False).last_hidden_state
        kept[:] = [torch.nn.functional.cross_entropy(head(hidden[0, -64:]).float(), ids[0, -64:])]

    def step() -> None:
        forward()
        kept.pop().backward()
        optimizer.step()
        optimizer.zero_grad()

    work, top = flops(step), peak(device, dtype)
    each = seconds(step, device)
    figures = {
        "parameters, billions": sum(weight.numel() for weight in weights) / 1e9,
        "seconds a step": each,
        "tokens/s": tokens / each,
        "TFLOP a step": work / 1e12,
        "MFU": work / each / top,
        "activations predicted, GB": tokens * shape.text_activations(0, dtype.itemsize) / 1e9,
    }
    if device.type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        forward()
        synchronize(device)
        figures["activations measured, GB"] = (torch.cuda.memory_allocated(device) - before) / 1e9
        kept.clear()
        figures["peak of a step beside its state, GB"] = peak_bytes(step, device) / 1e9
    return figures
