"""`duvlm run prior`: trains the small photo prior, a diffusers UNet2DModel that predicts noise (Ho et al., 2020).

Pixels are packed 2x2 into channels, which makes each step four times cheaper; there is no attention, so the network
works at any size although it is trained on crops. Low noise levels are drawn more often than high ones: restorations
start from a closed form and live there. The result is the moving average of the weights (EMA).
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor

from configs import UserError, config_to_yaml, manifest, run_folder
from configs.run_folders import locked, write_atomically
from configs.schema import Config
from envs.corpus.photos import find_photos
from reward_actors.priors.base import BETAS, TIMESTEPS
from reward_actors.training import load_checkpoint, train_to_end

PACK, CROP, BATCH = 2, 64, 16
EMA_DECAY = 0.999
LOW_TIMESTEPS, LOW_SHARE = 300, 0.6
"""Timesteps of low noise, and the share of the pictures that are trained there."""
STEPS, WARMUP, SAVE_STEPS = 5000, 200, 500


def run(config: Config) -> None:
    """Trains on the photos outside the test split; continues from OUT/checkpoint.pt; writes OUT/prior, summary.json."""
    out = run_folder(config, "prior")
    config = replace(config, steps=config.steps or STEPS)
    with locked(out):
        write_atomically(out / "config.yaml", config_to_yaml(config, "prior"))
        (out / "summary.json").unlink(missing_ok=True)  # a summary says that the run has finished
        _train(config, out)


def _train(config: Config, out: Path) -> None:
    torch.set_num_threads(1)
    photos = [p for p in find_photos(config.photos, config.seed, CROP) if p.split != "test"]
    crops = Crops([str(p.path) for p in photos], config.seed)
    trainer = PriorTrainer(config.steps, config.learner.lr, config.seed)
    checkpoint = out / "checkpoint.pt"
    if config.resume:
        trainer.load(checkpoint)
    else:  # an earlier run's would be taken for this one's, should it be killed before its first
        checkpoint.unlink(missing_ok=True)
    train_to_end(trainer, crops.batch, checkpoint, "prior", SAVE_STEPS, lambda: trainer.export(out / "prior"))
    summary = {
        "steps": trainer.step,
        "photos": [p.photo_id for p in photos],
        "seconds": trainer.seconds,
        "loss": trainer.loss,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1))


def build_prior() -> UNet2DModel:
    """Builds the network, 3.5 M parameters, with random weights."""
    channels = (64, 96, 128)
    return UNet2DModel(
        sample_size=CROP // PACK,
        in_channels=3 * PACK**2,
        out_channels=3 * PACK**2,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        norm_num_groups=16,
        add_attention=False,
    )


class Crops:
    """Cuts 64 px crops of photographs at random scales, flipped and turned; batch k is a function of (seed, k).

    Raises:
        UserError: no photograph is large enough.
    """

    def __init__(self, paths: list[str], seed: int):
        images = [cv2.imread(path, cv2.IMREAD_COLOR) for path in paths]
        self._images = [image[..., ::-1] for image in images if image is not None and min(image.shape[:2]) >= CROP]
        if not self._images:
            raise UserError(f"no photograph of at least {CROP} px a side to train on: give photos=FOLDER")
        self._seed = seed

    def batch(self, index: int) -> Tensor:
        """Cuts the crops of one step: float32 (BATCH, 3, CROP, CROP) in [-1, 1]."""
        rng = np.random.default_rng([self._seed, index])
        crops = np.stack([self._crop(self._images[rng.integers(len(self._images))], rng) for _ in range(BATCH)])
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1

    @staticmethod
    def _crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        largest = max(1.0, min(height, width) / 128)  # a corpus image shows up to the whole short side in 128 px
        side = min(int(CROP * largest ** rng.uniform(0, 1)), height, width)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = cv2.resize(image[top : top + side, left : left + side], (CROP, CROP), interpolation=cv2.INTER_AREA)
        return np.rot90(crop[:, :: rng.choice([-1, 1])], rng.integers(4))


class PriorTrainer:
    """Trains the network and the moving average of its weights: AdamW with warm-up and cosine decay.

    seconds: spent in steps; loss: its running average.
    """

    def __init__(self, steps: int, lr: float, seed: int):
        torch.manual_seed(seed)
        self.steps = steps
        self.step = 0
        self.seconds = 0.0
        self.loss = float("nan")
        self.model = build_prior().to(memory_format=torch.channels_last)
        self.average = EMAModel(self.model.parameters(), decay=EMA_DECAY, foreach=True)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.0, betas=(0.9, 0.99))
        self.schedule = get_cosine_schedule_with_warmup(self.optimiser, WARMUP, steps)
        self.noising = DDPMScheduler(TIMESTEPS, *BETAS, "linear")

    def train(self, x: Tensor) -> float:
        """Takes one step on x, (B, 3, H, W) in [-1, 1], at low noise for three rows in five; returns its loss."""
        began = time.time()
        generator = torch.Generator().manual_seed(self.step)
        low = torch.rand(len(x), generator=generator) < LOW_SHARE
        t = (torch.rand(len(x), generator=generator) * torch.where(low, LOW_TIMESTEPS, TIMESTEPS)).long()
        x = F.pixel_unshuffle(x, PACK)
        noise = torch.randn(x.shape, generator=generator)
        noisy = self.noising.add_noise(x, noise, t).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = self.model(noisy, t).sample
        loss = F.mse_loss(predicted.float(), noise)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.average.step(self.model.parameters())
        self.step += 1
        self.seconds += time.time() - began
        self.loss = 0.98 * self.loss + 0.02 * loss.item() if self.step > 1 else loss.item()
        return loss.item()

    def export(self, folder: Path) -> None:
        """Writes the averaged weights as a diffusers folder in half precision (read back as float32)."""
        network = build_prior()
        self.average.copy_to(network.parameters())
        aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        network.half().save_pretrained(aside)
        manifest.write(aside, "prior")
        manifest.replace(folder, aside)

    def state_dict(self) -> dict:
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser", "schedule")}
        return {**parts, "step": self.step, "seconds": self.seconds, "loss": self.loss}

    def load(self, checkpoint: Path) -> None:
        """Continues from a checkpoint, if there is one."""
        state = load_checkpoint(checkpoint)
        if state is None:
            return
        for name in ("model", "average", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.loss = state["loss"]
