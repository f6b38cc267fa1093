"""Tokens a second of a vLLM engine with the shipped policy, where vLLM is installed: that its CUDA build starts at all,
and how much of its time is not the model's, which is tiny."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.gpu.common import SkippedError

POLICY = Path(__file__).parents[2] / "learner" / "weights" / "policy"


def run(device: torch.device, small: bool) -> dict[str, float]:
    """Samples 64 tokens for each of 256 prompts.

    Raises:
        SkippedError: there is no GPU, or vLLM is not installed.
    """
    if device.type != "cuda":
        raise SkippedError("no GPU")
    try:
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise SkippedError(f"vLLM cannot be imported ({error})") from None
    engine = LLM(
        str(POLICY), dtype="bfloat16", max_model_len=512, gpu_memory_utilization=0.3, limit_mm_per_prompt={"image": 0}
    )
    prompts = [{"prompt_token_ids": list(range(20, 84))}] * (8 if small else 256)
    sampling = SamplingParams(max_tokens=64, ignore_eos=True, temperature=1.0)
    engine.generate(prompts, sampling)
    began = time.perf_counter()
    answers = engine.generate(prompts, sampling)
    taken = time.perf_counter() - began
    return {"tokens/s": sum(len(answer.outputs[0].token_ids) for answer in answers) / taken}
