"""A residual network that reads the numbers of a degradation off the views of a picture, its type being told.

It is trained on the absolute error, so what it gives is the median of what the picture leaves open. Training pictures
are degraded anew each time, as those of SFT are (`learner.distributed.sampler.refreshed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from envs.observation import views
from envs.taxonomy import Degradation, Taxonomy
from envs.types import Sample
from learner.distributed.sampler import refreshed, step_indices

BATCH = 32
RATE = 1e-3
WIDTHS = (32, 64, 128, 256)
AHEAD = 3
"""Batches that are made while one is learned from."""


class Regressor(nn.Module):
    """Pictures (B, C, H, W) in [0, 1] -> (B, numbers), each about 0 .. 1 over the range of its key."""

    def __init__(self, channels: int, numbers: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, WIDTHS[0], 5, 2, 2)]
        before = WIDTHS[0]
        for width in WIDTHS:
            layers += [Block(before, width, 2), Block(width, width, 1)]
            before = width
        self.trunk, self.head = nn.Sequential(*layers), nn.Linear(2 * before, numbers)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.trunk(pictures).flatten(2)
        return 0.5 + self.head(torch.cat([seen.mean(-1), seen.amax(-1)], -1))


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.norm1, self.first = nn.GroupNorm(8, before), nn.Conv2d(before, width, 3, stride, 1)
        self.norm2, self.second = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, 1, 1)
        self.around = nn.Identity() if (before, stride) == (width, 1) else nn.Conv2d(before, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(F.silu(self.norm1(x)))
        return self.around(x) + self.second(F.silu(self.norm2(inner)))


def fit(
    train: Sequence[Sample], taxonomy: Taxonomy, names: Sequence[str], updates: int, seed: int
) -> tuple[Regressor, list[float]]:
    """The network after `updates` steps of AdamW (a cosine down to 0), and its loss at each of them."""
    torch.manual_seed(seed)
    network = Regressor(_pictures([train[0]], names).shape[1], len(_places(taxonomy)))
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    losses = []
    with ThreadPoolExecutor(AHEAD) as threads:
        batches = (threads.submit(_batch, train, taxonomy, names, step, seed) for step in range(updates))
        waiting = list(islice(batches, AHEAD))
        for _ in track(range(updates), "learning", disable=not Console().is_terminal):
            pictures, targets, weights = waiting.pop(0).result()
            waiting += islice(batches, 1)
            with torch.autocast("cpu", torch.bfloat16):
                guess = network(pictures)
            loss = ((guess.float() - targets).abs() * weights).sum() / weights.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
    return network.eval(), losses


@torch.inference_mode()
def read(
    network: Regressor, samples: Sequence[Sample], taxonomy: Taxonomy, names: Sequence[str]
) -> list[Degradation]:
    """What it answers to each sample, whose type it is told."""
    answers, places = [], _places(taxonomy)
    for first in range(0, len(samples), BATCH):
        part = samples[first : first + BATCH]
        guesses = network(_pictures(part, names)).clamp(0, 1).tolist()
        answers += [_degradation(sample, guess, taxonomy, places) for sample, guess in zip(part, guesses, strict=True)]
    return answers


def _places(taxonomy: Taxonomy) -> dict[tuple[str, int], int]:
    """{(key, index within it): number of the output}."""
    numbers = [(name, index) for name, key in taxonomy.keys.items() for index in range(key.size)]
    return {place: number for number, place in enumerate(numbers)}


def _batch(train: Sequence[Sample], taxonomy: Taxonomy, names: Sequence[str], step: int, seed: int):
    picked = step_indices(step, BATCH, len(train), seed)
    samples = [refreshed(train[index], taxonomy, seed, epoch, index) for epoch, index in picked]
    places = _places(taxonomy)
    targets, weights = torch.zeros(len(samples), len(places)), torch.zeros(len(samples), len(places))
    for row, sample in enumerate(samples):
        for name, value in sample.degradation.values:
            key = taxonomy.keys[name]
            for index, number in enumerate(np.ravel(value)):
                targets[row, places[name, index]] = (float(number) - key.low) / (key.high - key.low)
                weights[row, places[name, index]] = 1
    return _pictures(samples, names), targets, weights


def _pictures(samples: Sequence[Sample], names: Sequence[str]) -> Tensor:
    """float32 (B, 3 x views, H, W) in [0, 1]."""
    rows = np.stack([np.concatenate(views(sample.degraded, names), -1) for sample in samples])
    return torch.from_numpy(rows).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)


def _degradation(
    sample: Sample, guess: Sequence[float], taxonomy: Taxonomy, places: Mapping[tuple[str, int], int]
) -> Degradation:
    values = {}
    for name, value in sample.degradation.values:
        key = taxonomy.keys[name]
        numbers = [
            key.snap(key.low + (key.high - key.low) * guess[places[name, index]]) for index in range(np.size(value))
        ]
        values[name] = np.reshape(numbers, np.shape(value)).tolist()
    return taxonomy.degradation(sample.degradation.type, values)
