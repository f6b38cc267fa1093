"""How the network of `rank_iqa` is trained: restorations under right and wrong values, ranked by the truth.

A group is one picture's: a crop of a photograph is degraded, and restored in closed form under guesses that lie about
the truth as a policy's answers do. The network sees restorations and what was given, and learns how many dB lie between
them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs import UserError
from configs.schema import World
from envs import degradations
from envs.corpus.datasets import Photo
from envs.corpus.generate import crop
from envs.pictures import read_picture
from envs.taxonomy import Degradation, DegradationType, Taxonomy
from envs.world import world_taxonomy
from reward_actors.scoring import rank_iqa

PICTURES, GUESSES = 8, 4
ERRORS = (0.05, 0.1, 0.2, 0.4)
"""Spreads of a guess about the truth (of its logarithm); each group's guesses draw theirs."""
MOST_DB = 40.0
"""Restorations better than this count as this."""
CLEAR_DB = 0.2
"""What lies nearer together is not asked for its order."""
WARMUP, GRAD_CLIP, WEIGHT_DECAY = 100, 1.0, 0.01


class Groups:
    """Groups of restorations of crops of photographs, the k-th a function of (seed, k)."""

    def __init__(self, photos: list[Photo], world: World, size: int, seed: int):
        self._photos, self._seed, self._size = [read_picture(photo.path) for photo in photos], seed, size
        self._taxonomy: Taxonomy = world_taxonomy(world)

    def batch(self, index: int) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """Restorations (PICTURES, GUESSES, 3, H, W) in [0, 1], what was given (PICTURES, 3, H, W), the restorations' dB
        (PICTURES, GUESSES), and types."""
        rng = np.random.default_rng([self._seed, index])
        kinds = [self._taxonomy.types[rng.integers(len(self._taxonomy.types))] for _ in range(PICTURES)]
        groups = [self._group(kind, rng) for kind in kinds]
        restored, given, decibel = (torch.stack(column) for column in zip(*groups, strict=True))
        return restored, given, decibel, [kind.name for kind in kinds]

    def _group(self, kind: DegradationType, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        photo = self._photos[rng.integers(len(self._photos))]
        square = np.rot90(crop(photo, self._size, rng)[:, :: rng.choice([-1, 1])], 2 * rng.integers(2))
        clean = torch.tensor(square.copy()).permute(2, 0, 1)[None] / 255
        truth = degradations.sample(self._taxonomy, kind.name, rng, self._size)
        guesses = [guess(truth, kind, self._taxonomy, rng) for _ in range(GUESSES)]
        given = degradations.degrade(clean, [truth])
        restored = degradations.quantise(degradations.closed_form(given.expand(GUESSES, -1, -1, -1), guesses))
        error = (restored - clean).square().mean((1, 2, 3))
        return restored, given[0], -10 * error.clamp_min(10 ** (-MOST_DB / 10)).log10()


def guess(truth: Degradation, kind: DegradationType, taxonomy: Taxonomy, rng: np.random.Generator) -> Degradation:
    """Each key of the truth times a factor of its own, within its range."""
    spread = rng.choice(ERRORS)
    off = {key.name: np.exp(spread * rng.standard_normal()) for key in kind.keys}
    values = {key.name: np.clip(np.asarray(truth[key.name]) * off[key.name], key.low, key.high) for key in kind.keys}
    return taxonomy.degradation(kind.name, {name: value.tolist() for name, value in values.items()})


class RankTrainer:
    """Network, AdamW with warm-up and cosine, and their checkpoint, a file."""

    def __init__(self, steps: int, lr: float, seed: int, learns: Mapping[str, object]):
        """learns: from what, as far as JSON tells it."""
        torch.manual_seed(seed)
        self._about = json.dumps({**learns, "seed": seed}, sort_keys=True)
        self.steps, self.step = steps, 0
        self.network = rank_iqa.RankNet().to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
        self._lr = lr

    def train(self, restored: Tensor, given: Tensor, decibel: Tensor) -> float:
        """One step on a batch of groups; its loss."""
        progress = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr * min(1.0, (self.step + 1) / WARMUP) * progress
        loss = rank_iqa.loss(self.network(restored, given), decibel)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRAD_CLIP)
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def save(self, file: Path) -> None:
        """In place of the checkpoint before, at once."""
        aside = file.with_suffix(".new")
        state = {"step": self.step, "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save({**state, "about": self._about}, aside)
        os.replace(aside, file)

    def load(self, file: Path) -> None:
        """Continues from a checkpoint, if there is one.

        Raises:
            UserError: it is that of another training.
        """
        if not file.is_file():
            return
        state = torch.load(file, weights_only=True)
        if state.get("about") != self._about:
            raise UserError(
                f"{file} is of a training on other photographs, or with another seed, size or world; set resume=false "
                "to train anew, or out= to another folder"
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


@torch.inference_mode()
def concordance(network: rank_iqa.RankNet, groups: Groups, batches: int) -> dict[str, float]:
    """By type, the share of pairs of one picture's restorations that it puts in their order; .5 is a coin."""
    won: dict[str, list[bool]] = {}
    for index in range(batches):
        restored, given, decibel, kinds = groups.batch(index)
        said = network(restored, given)
        for kind, better, ahead in zip(kinds, *map(_ahead, (decibel, said)), strict=True):
            clear = better > CLEAR_DB
            won.setdefault(kind, []).extend((ahead[clear] > 0).tolist())
    return {kind: sum(pairs) / max(1, len(pairs)) for kind, pairs in sorted(won.items())}


def _ahead(table: Tensor) -> Tensor:
    """(pictures, n) -> (pictures, n, n): how far the one lies above the other."""
    return table[:, :, None] - table[:, None, :]


def write(network: rank_iqa.RankNet, file: Path, photos: list[Photo], found: dict[str, float], steps: int) -> None:
    """The weights, with what they learnt from and their concordance on photographs they did not see."""
    rounded = {kind: round(share, 3) for kind, share in found.items()}
    about = {"photos": sorted(photo.photo_id for photo in photos), "steps": steps, "concordance": rounded}
    rank_iqa.save(network, file, about)
    print(f"{file}: the nearer of two restorations ranks higher, by type: {json.dumps(rounded)}")
