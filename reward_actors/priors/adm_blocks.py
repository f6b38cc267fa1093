"""The blocks of the ADM network (Dhariwal and Nichol, 2021), their parameters named as in the published files."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def wave_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of t at wavelengths from 2 pi to 2 pi 10^4: float32 (B, width)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=t.device))
    angles = t.float()[:, None] * rates
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


class Norm(nn.GroupNorm):
    """32 groups, computed in float32 whatever the precision around it."""

    def __init__(self, channels: int):
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), 32, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


class Stage(nn.Sequential):
    """Layers of which the residual ones also see the time."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, Residual) else layer(x)
        return x


class Residual(nn.Module):
    """Two convolutions around the time embedding; `resize` (0.5, 1 or 2) acts between norm and convolution."""

    def __init__(self, channels: int, out: int, embedded: int, scale_shift: bool, resize: float = 1):
        super().__init__()
        self._scale_shift, self._resize = scale_shift, resize
        self.in_layers = nn.Sequential(Norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(Norm(out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        h = convolution(_resized(activation(norm(x)), self._resize))
        shift = self.emb_layers(embedding)[..., None, None]
        if self._scale_shift:
            norm, *rest = self.out_layers
            scale, shift = shift.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
            for layer in rest:
                h = layer(h)
        else:
            h = self.out_layers(h + shift)
        return self.skip_connection(_resized(x, self._resize)) + h


class Attention(nn.Module):
    """Self-attention over all pixels. With `new_order` q, k, v are split first and heads second; else heads first."""

    def __init__(self, channels: int, heads: int, new_order: bool):
        super().__init__()
        self._heads, self._new_order = heads, new_order
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        qkv, (batch, _, pixels) = self.qkv(self.norm(flat)), flat.shape
        if self._new_order:
            parts = qkv.reshape(batch, 3, self._heads, -1, pixels).unbind(1)
        else:
            parts = qkv.reshape(batch, self._heads, 3, -1, pixels).unbind(2)
        q, k, v = (part.transpose(-2, -1) for part in parts)
        found = F.scaled_dot_product_attention(q, k, v).transpose(-2, -1).reshape(flat.shape)
        return (flat + self.proj_out(found)).reshape(x.shape)


class Downsample(nn.Module):
    """A strided convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Pixels twice as large, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(_resized(x, 2))


def _resized(x: Tensor, factor: float) -> Tensor:
    """Means of 2 x 2 pixels (0.5), pixels repeated (2), or x itself."""
    if factor == 1:
        return x
    return F.avg_pool2d(x, 2) if factor < 1 else F.interpolate(x, scale_factor=2, mode="nearest")
