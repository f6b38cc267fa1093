"""`rank_iqa`: a small network that says which restoration of a picture is nearer the truth, without the truth.

The idea is RankIQA's (Liu et al., 2017): pictures that were spoiled on purpose come with their order, and a network can
learn quality from it alone. Ours are restorations of one picture under right and wrong values, as a policy's answers
are, and what is learnt is their distance in dB. Only differences within a picture mean anything; across pictures the
numbers have no common zero. `duvlm run fit-iqa` trains it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from configs import UserError

SHIPPED = Path(__file__).parent / "rank_iqa.safetensors"
WIDTHS, STRIDES = (24, 32, 64, 96), (2, 1, 2, 2)
CHANNELS = 8
MIN_SIDE = 32
_DARKEST, _TINY = 1 / 255, 1e-6


class RankNet(nn.Module):
    """Predicts how many dB a restoration lies from the truth.

    Restoration and degraded picture each go through four convolutions of their own; the head sees the mean and the
    spread of every channel at every level, those of the input among them.
    """

    def __init__(self):
        super().__init__()
        self.restored, self.given = _convolutions(), _convolutions()
        features = 2 * 2 * (CHANNELS + sum(WIDTHS))
        self.norm = nn.BatchNorm1d(features, momentum=0.02, affine=False)
        self.head = nn.Sequential(nn.Linear(features, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, restored: Tensor, degraded: Tensor) -> Tensor:
        """Ranks (B, K, 3, H, W) restorations of (B, 3, H, W), in [0, 1], even sides: (B, K) dB; higher is nearer."""
        pictures, guesses = restored.shape[:2]
        restored_features = _features(self.restored, restored.flatten(0, 1))
        degraded_features = _features(self.given, degraded).repeat_interleave(guesses, 0)
        return self.head(self.norm(torch.cat([restored_features, degraded_features], 1))).view(pictures, guesses)


def rank(restored: Tensor, degraded: Tensor, file: str = "") -> Tensor:
    """Ranks restorations by how near the truth they look, dB: float64 (B,) on the pictures' device; higher is better.

    restored, degraded: (B, 3, H, W) in [0, 1], sides of at least 32 px; of an odd side the last pixels are not seen.

    Raises:
        UserError: pictures too small, or no weights in `file`.
    """
    height, width = restored.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"rank_iqa: expected sides of at least {MIN_SIDE} px, got {height} x {width}")
    network = load(file, str(restored.device))
    even = (slice(None), slice(None), slice(height - height % 2), slice(width - width % 2))
    restored = (255 * restored[even].float()).round() / 255  # as it learnt
    rows = 1 if restored.device.type == "cpu" else len(restored)  # on a CPU rounding depends on the batch
    with torch.inference_mode():
        parts = zip(restored.split(rows), degraded[even].float().split(rows), strict=True)
        return torch.cat([network(some[:, None], others)[:, 0] for some, others in parts]).double()


def loss(predicted: Tensor, decibel: Tensor) -> Tensor:
    """Computes the Huber loss (linear beyond 3 dB) between (pictures, restorations) tables, less their row means."""
    off = predicted - predicted.mean(1, keepdim=True) - (decibel - decibel.mean(1, keepdim=True))
    return F.smooth_l1_loss(off, torch.zeros_like(off), beta=3.0)


def save(network: RankNet, path: Path, about: dict) -> None:
    """Writes weights and where they come from, to one safetensors file."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, path, {"about": json.dumps(about)})


@lru_cache(4)
def load(file: str = "", device: str = "cpu") -> RankNet:
    """Reads the shipped network, or that of a file that `duvlm run fit-iqa` wrote.

    Raises:
        UserError: no such file, or not such a file.
    """
    path, network = Path(file).expanduser() if file else SHIPPED, RankNet()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"rank_iqa: {path} is no network of `duvlm run fit-iqa`: {error}") from error
    return network.eval().requires_grad_(False).to(device)


def _convolutions() -> nn.ModuleList:
    sizes = (4 * CHANNELS, *WIDTHS)
    return nn.ModuleList(
        nn.Conv2d(before, after, 3, stride, padding=1)
        for before, after, stride in zip(sizes, WIDTHS, STRIDES, strict=False)
    )


def _features(convolutions: nn.ModuleList, pictures: Tensor) -> Tensor:
    """Computes means and log spreads of all channels at all levels: (B, 2 x channels)."""
    level = _channels(pictures)
    features = [_pooled(level)]
    level = F.pixel_unshuffle(level, 2)
    for convolution in convolutions:
        level = F.gelu(convolution(level))
        features.append(_pooled(level))
    return torch.cat(features, 1)


def _channels(pictures: Tensor) -> Tensor:
    """Stacks values, their logarithms (light is lost by factors), detail, detail over local contrast: (B, 8, H, W)."""
    luma = (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    local = _box(luma, 7)
    contrast = (_box(luma * luma, 7) - local * local).clamp_min(0).sqrt()
    logarithm = (pictures + _DARKEST).log() / 3 + 0.5
    detail = [8 * (luma - _box(luma, 3)), (luma - local) / (contrast + _DARKEST)]
    return torch.cat([2 * pictures - 1, logarithm, *detail], 1)


def _box(picture: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(F.pad(picture, [side // 2] * 4, mode="replicate"), side, 1)


def _pooled(level: Tensor) -> Tensor:
    spread = (level.var((2, 3), unbiased=False) + _TINY).log() / 2
    return torch.cat([level.mean((2, 3)), spread], 1)
