"""`duvlm run fit-iqa photos=DIR out=DIR [steps=N]`: what scores of a picture alone know of photographs.

The model of `niqe_local`, `spectrum` and `contrast` is fitted to sharp crops. With steps=N the network of `rank_iqa` is
trained too: it sees groups of restorations of one picture, a crop of a photograph that was degraded and restored in
closed form under guesses that lie about the truth as a policy's answers do, and learns how many dB lie between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor

from configs import UserError, config_to_yaml, run_folder
from configs.run_folders import locked, write_atomically
from configs.schema import Config, World
from envs import degradations
from envs.corpus.datasets import Photo, read_photo
from envs.corpus.generate import crop
from envs.corpus.photos import scan_photos
from envs.taxonomy import Degradation, DegradationType, Taxonomy
from envs.world import world_taxonomy
from reward_actors.scoring import natural_statistics, rank_iqa
from reward_actors.training import load_checkpoint, train_to_end

BLOCK = 32
CROPS_PER_PHOTO = 40
PICTURES, GUESSES = 8, 4
ERRORS = (0.05, 0.1, 0.2, 0.4)
"""Spreads of a guess about the truth (of its logarithm); each group's guesses draw theirs."""
MOST_DB = 40.0
"""Restorations better than this count as this."""
CLEAR_DB = 0.2
"""What lies nearer together is not asked for its order."""
WARMUP, GRAD_CLIP, WEIGHT_DECAY = 100, 1.0, 0.01
CHECKPOINT, SAVE_STEPS = "checkpoint.pt", 250
VALIDATION_BATCHES = 24
"""Batches of pictures of the val split by which a trained network is judged."""


def run(config: Config) -> None:
    """Fits to the train photos of photos=, crops of size= pixels a side; writes niqe_local.json, rank_iqa.safetensors.

    What OUT holds already of the same photographs and settings is kept, unless `resume=false`.

    Raises:
        UserError: no train photo, too few sharp blocks, a network without photos of the val split to judge it by, or
            OUT has a checkpoint of one that was trained on other photographs, or with another seed, size or world.
    """
    size = config.size or config.world.size
    photos = scan_photos(config.photos, config.seed, size)[0]
    train, val = ([photo for photo in photos if photo.split == split] for split in ("train", "val"))
    if not train or (config.steps and not val):
        lacking = "val" if train else "train"
        raise UserError(f"photos={config.photos}: expected photographs of the {lacking} split, found none")
    about = {"photos": sorted({photo.photo_id for photo in train}), "size": size, "seed": config.seed}
    folder = run_folder(config, "fit-iqa")
    trainer = _trainer(config, about, folder / CHECKPOINT) if config.steps else None  # before anything is written
    file = folder / "niqe_local.json"
    model = _fitted(file, about) if config.resume else None
    if model is None:
        model = natural_statistics.fit(crops(train, size, config.seed, CROPS_PER_PHOTO), BLOCK, about)
    with locked(folder):
        write_atomically(folder / "config.yaml", config_to_yaml(config, "fit-iqa"))
        natural_statistics.save(model, file)
        print(f"{file}: {model.about['blocks']} sharp blocks of {len(train)} photographs")
        if trainer:
            _train(config, trainer, train, val, size, folder)


def crops(photos: list[Photo], size: int, seed: int, per_photo: int) -> Iterator[np.ndarray]:
    """Cuts squares of photographs as the corpus does, uint8 (size, size, 3)."""
    for index, photo in enumerate(photos):
        picture, rng = read_photo(photo.path), np.random.default_rng([seed, index])
        for _ in range(per_photo):
            yield crop(picture, size, rng)


def _fitted(file: Path, about: dict) -> natural_statistics.NaturalModel | None:
    """Reads the model in `file`, if it was fitted to the same."""
    if not file.is_file():
        return None
    model = natural_statistics.load(str(file))
    return model if about.items() <= model.about.items() else None


def _trainer(config: Config, about: dict, checkpoint: Path) -> RankTrainer:
    torch.set_num_threads(1)
    trainer = RankTrainer(config.steps, config.learner.lr, config.seed, about | {"world": asdict(config.world)})
    if config.resume:
        trainer.load(checkpoint)
    return trainer


def _train(
    config: Config, trainer: RankTrainer, train: list[Photo], val: list[Photo], size: int, folder: Path
) -> None:
    groups = Groups(train, config.world, size, config.seed)
    if not config.resume:  # should this run be killed before its first, an earlier run's would be taken for its own
        (folder / CHECKPOINT).unlink(missing_ok=True)
    train_to_end(trainer, groups.batch, folder / CHECKPOINT, "rank_iqa", SAVE_STEPS)
    unseen = Groups(val, config.world, size, config.seed + 1)
    shares = concordance(trainer.network.eval(), unseen, VALIDATION_BATCHES)
    shares = {kind: round(share, 3) for kind, share in shares.items()}
    about = {"photos": sorted(photo.photo_id for photo in train), "steps": trainer.step, "concordance": shares}
    file = folder / "rank_iqa.safetensors"
    rank_iqa.save(trainer.network, file, about)
    print(f"{file}: the nearer of two restorations ranks higher, by type: {json.dumps(shares)}")


class Groups:
    """Makes groups of restorations of crops of photographs, the k-th a function of (seed, k)."""

    def __init__(self, photos: list[Photo], world: World, size: int, seed: int):
        self._photos = [read_photo(photo.path) for photo in photos]
        self._seed = seed
        self._size = size
        self._taxonomy = world_taxonomy(world)

    def batch(self, index: int) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """Makes one step's groups.

        Returns:
            Restorations (PICTURES, GUESSES, 3, H, W) in [0, 1], their degraded pictures (PICTURES, 3, H, W), the
            restorations' PSNR in dB (PICTURES, GUESSES), and types.
        """
        rng = np.random.default_rng([self._seed, index])
        kinds = [self._taxonomy.types[rng.integers(len(self._taxonomy.types))] for _ in range(PICTURES)]
        groups = [self._group(kind, rng) for kind in kinds]
        restored, degraded, decibel = (torch.stack(column) for column in zip(*groups, strict=True))
        return restored, degraded, decibel, [kind.name for kind in kinds]

    def _group(self, kind: DegradationType, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        photo = self._photos[rng.integers(len(self._photos))]
        square = np.rot90(crop(photo, self._size, rng)[:, :: rng.choice([-1, 1])], 2 * rng.integers(2))
        clean = torch.tensor(square.copy()).permute(2, 0, 1)[None] / 255
        truth = degradations.sample(self._taxonomy, kind.name, rng, self._size)
        guesses = [guess(truth, kind, self._taxonomy, rng) for _ in range(GUESSES)]
        degraded = degradations.degrade(clean, [truth])
        restored = degradations.quantise(degradations.closed_form(degraded.expand(GUESSES, -1, -1, -1), guesses))
        error = (restored - clean).square().mean((1, 2, 3))
        return restored, degraded[0], -10 * error.clamp_min(10 ** (-MOST_DB / 10)).log10()


def guess(truth: Degradation, kind: DegradationType, taxonomy: Taxonomy, rng: np.random.Generator) -> Degradation:
    """Multiplies each key of the truth by a factor of its own, within its range."""
    spread = rng.choice(ERRORS)
    factors = {key.name: np.exp(spread * rng.standard_normal()) for key in kind.keys}
    values = {k.name: np.clip(np.asarray(truth[k.name]) * factors[k.name], k.low, k.high) for k in kind.keys}
    return taxonomy.degradation(kind.name, {name: value.tolist() for name, value in values.items()})


class RankTrainer:
    """Trains the network: AdamW with warm-up and cosine decay.

    Args:
        learns_from: what the training depends on, as far as JSON can say it; checkpoints of others are refused.
    """

    def __init__(self, steps: int, lr: float, seed: int, learns_from: Mapping[str, object]):
        torch.manual_seed(seed)
        self._about = json.dumps({**learns_from, "seed": seed}, sort_keys=True)
        self.steps = steps
        self.step = 0
        self.network = rank_iqa.RankNet().to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
        self.schedule = get_cosine_schedule_with_warmup(self.optimiser, WARMUP, steps)

    def train(self, batch: tuple[Tensor, Tensor, Tensor, list[str]]) -> float:
        """Takes one step on the groups of `Groups.batch`; returns its loss."""
        restored, degraded, decibel, _ = batch
        loss = rank_iqa.loss(self.network(restored, degraded), decibel)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRAD_CLIP)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        return loss.item()

    def state_dict(self) -> dict:
        parts = {name: getattr(self, name).state_dict() for name in ("network", "optimiser", "schedule")}
        return {**parts, "step": self.step, "about": self._about}

    def load(self, file: Path) -> None:
        """Continues from a checkpoint, if there is one.

        Raises:
            UserError: it is that of another training.
        """
        state = load_checkpoint(file)
        if state is None:
            return
        if state.get("about") != self._about:
            raise UserError(
                f"{file} is of a training on other photographs, or with another seed, size or world; set resume=false "
                "to train anew, or out= to another folder"
            )
        for name in ("network", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]


@torch.inference_mode()
def concordance(network: rank_iqa.RankNet, groups: Groups, batches: int) -> dict[str, float]:
    """Measures, by type, the share of pairs of one picture's restorations that are ranked right; .5 is a coin."""
    right: dict[str, list[bool]] = {}
    for index in range(batches):
        restored, degraded, decibel, kinds = groups.batch(index)
        ranks = network(restored, degraded)
        differences = (table[:, :, None] - table[:, None, :] for table in (decibel, ranks))
        for kind, better, ahead in zip(kinds, *differences, strict=True):
            clear = better > CLEAR_DB
            right.setdefault(kind, []).extend((ahead[clear] > 0).tolist())
    return {kind: sum(pairs) / max(1, len(pairs)) for kind, pairs in sorted(right.items())}
