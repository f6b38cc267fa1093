"""`duvlm run fit-iqa photos=DIR out=DIR [steps=N]`: what scores of a picture alone know of photographs.

The model of `niqe_local`, `spectrum` and `contrast` is fitted to sharp crops; with steps=N the network of
`rank_iqa` is trained too, and goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from configs import UserError, config_to_yaml, run_folder
from configs.run_folders import lines_until, locked, write_atomically
from configs.schema import Config
from envs.corpus.datasets import Photo
from envs.corpus.generate import crop
from envs.corpus.photos import scan_photos
from envs.pictures import read_picture
from reward_actors.scoring import niqe_local
from reward_actors.scoring.train_rank_iqa import Groups, RankTrainer, concordance, write

BLOCK = 32
CROPS_PER_PHOTO = 40
CHECKPOINT = "rank_iqa.checkpoint"
SAVE_STEPS, SAY_STEPS = 250, 50
JUDGED = 24
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
        model = niqe_local.fit(crops(train, size, config.seed, CROPS_PER_PHOTO), BLOCK, about)
    with locked(folder):
        write_atomically(folder / "config.yaml", config_to_yaml(config, "fit-iqa"))
        niqe_local.save(model, file)
        print(f"{file}: {model.about['blocks']} sharp blocks of {len(train)} photographs")
        if trainer:
            _train(config, trainer, train, val, size, folder)


def crops(photos: list[Photo], size: int, seed: int, per_photo: int):
    """Squares of photographs as the corpus cuts them, uint8 (size, size, 3)."""
    for index, photo in enumerate(photos):
        picture, rng = read_picture(photo.path), np.random.default_rng([seed, index])
        for _ in range(per_photo):
            yield crop(picture, size, rng)


def _fitted(file: Path, about: dict) -> niqe_local.NaturalModel | None:
    """The model in `file`, if it was fitted to the same."""
    if not file.is_file():
        return None
    model = niqe_local.load(str(file))
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
    groups, checkpoint = Groups(train, config.world, size, config.seed), folder / CHECKPOINT
    if not config.resume:  # should this run be killed before its first, an earlier run's would be taken for its own
        checkpoint.unlink(missing_ok=True)
    first, began, losses = trainer.step, time.monotonic(), []
    write_atomically(folder / "metrics.jsonl", lines_until(folder / "metrics.jsonl", first))
    with (folder / "metrics.jsonl").open("a") as log:
        while trainer.step < config.steps:
            losses.append(trainer.train(*groups.batch(trainer.step)[:3]))
            if trainer.step % SAY_STEPS == 0:
                loss, losses = sum(losses) / len(losses), []
                left = (config.steps - trainer.step) * (time.monotonic() - began) / (trainer.step - first) / 60
                log.write(json.dumps({"step": trainer.step, "loss": loss}) + "\n")
                log.flush()
                said = f"rank_iqa: step {trainer.step}/{config.steps}, loss {loss:.3f} dB, {left:.0f} min left"
                print(said, flush=True)
            if trainer.step % SAVE_STEPS == 0 or trainer.step == config.steps:
                trainer.save(checkpoint)
    found = concordance(trainer.network.eval(), Groups(val, config.world, size, config.seed + 1), JUDGED)
    write(trainer.network, folder / "rank_iqa.safetensors", train, found, trainer.step)
