"""Images a second of a denoiser with the architecture of `google/ddpm-celebahq-256`, random weights, in every way a
reward actor may run it; beside the ceiling of matrix products, and how far its noise is from that in float32."""

from __future__ import annotations

import copy

import torch

from benchmarks.gpu.common import SkippedError, flops
from configs.cluster.profiling import peak, seconds

PUBLISHED = {
    "sample_size": 256,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "attention_head_dim": None,
}
SMALL = {
    "sample_size": 32,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def run(device: torch.device, small: bool) -> dict[str, float]:
    """Measures each way.

    Returns:
        For each way its images a second, and its share of the ceiling of the same type.

    Raises:
        SkippedError: diffusers is not installed.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise SkippedError(f"diffusers cannot be imported ({error})") from None
    torch.manual_seed(0)
    rows, shape = (2, SMALL) if small else (16, PUBLISHED)
    network = UNet2DModel(**shape).eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    side = shape["sample_size"]
    x = torch.randn(rows, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    t = torch.full((rows,), 100, device=device)
    figures: dict[str, float] = {}
    with torch.inference_mode():
        work = flops(lambda: network(x, t)) / rows
        exact = network(x, t).sample
        figures["TFLOP an image"] = work / 1e12
        for dtype in (torch.float32, torch.bfloat16):
            name, top = str(dtype).removeprefix("torch."), peak(device, dtype)
            figures[f"{name}: ceiling, TFLOP/s"] = top / 1e12
            plain = copy.deepcopy(network).to(dtype)
            given = x.to(dtype)
            ways = {"": plain}
            if device.type == "cuda":
                ways["compiled "] = torch.compile(plain, dynamic=False)
                ways["compiled, CUDA graphs "] = torch.compile(plain, mode="reduce-overhead", dynamic=False)
            for way, call in ways.items():
                each = seconds(lambda call=call, given=given: call(given, t), device) / rows
                figures[f"{name}: {way}images/s"] = 1 / each
                figures[f"{name}: {way}share of the ceiling"] = work / each / top
            noise = plain(given, t).sample.float()
            figures[f"{name}: error of the noise, rms"] = ((noise - exact) ** 2).mean().sqrt().item()
    return figures
