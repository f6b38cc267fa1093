"""`duvlm run prior`: trains the small photo prior, a diffusers UNet2DModel that predicts noise (Ho et al., 2020).

Pixels are packed 2x2 into channels, which makes each step four times cheaper; there is no attention, so the network
works at any size although it is trained on crops. Low noise levels are drawn more often than high ones: restorations
start from a closed form and live there. The result is the moving average of the weights (EMA).
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import UserError, config_to_yaml, run_folder
from configs.run_folders import lines_until, locked, write_atomically
from configs.schema import Config
from envs.corpus.photos import find_photos

PACK, CROP, BATCH, EMA, LOW_NOISE = 2, 64, 16, 0.999, 300
STEPS = 5000


def build_prior() -> UNet2DModel:
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


def run(config: Config) -> None:
    """Trains on the photos outside the test split; continues from OUT/checkpoint; writes OUT/prior, summary.json."""
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
    if config.resume:
        trainer.load(out / "checkpoint")
    else:  # an earlier run's would be taken for this one's, should it be killed before its first
        for name in ("checkpoint", "checkpoint.old"):
            _remove(out / name)
    began, first = time.time(), trainer.step
    write_atomically(out / "metrics.jsonl", lines_until(out / "metrics.jsonl", first))
    with open(out / "metrics.jsonl", "a") as log:
        while trainer.step < trainer.steps:
            loss = trainer.train(crops.batch(trainer.step))
            if trainer.step % 50 == 0:
                speed = (trainer.step - first) / (time.time() - began)
                log.write(json.dumps({"step": trainer.step, "loss": loss, "steps_per_second": speed}) + "\n")
                log.flush()
                left = (trainer.steps - trainer.step) / speed / 60
                print(
                    f"prior: step {trainer.step}/{trainer.steps}, loss {loss:.4f}, {left:.0f} min left",
                    flush=True,
                )
            if trainer.step % 500 == 0 or trainer.step == trainer.steps:
                trainer.save(out / "checkpoint")
                trainer.export(out / "prior")
    summary = {
        "steps": trainer.step,
        "photos": [p.photo_id for p in photos],
        "seconds": trainer.seconds,
        "loss": trainer.loss,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1))


class Crops:
    """Random 64 px crops of photographs at random scales, flipped and turned; batch k is a function of (seed, k)."""

    def __init__(self, paths: list[str], seed: int):
        images = [cv2.imread(path, cv2.IMREAD_COLOR) for path in paths]
        self._images = [
            image[..., ::-1] for image in images if image is not None and min(image.shape[:2]) >= CROP
        ]
        if not self._images:
            raise UserError(f"no photograph of at least {CROP} px a side to train on: give photos=FOLDER")
        self._seed = seed

    def batch(self, index: int) -> Tensor:
        """float32 (BATCH, 3, CROP, CROP) in [-1, 1]."""
        rng = np.random.default_rng([self._seed, index])
        crops = np.stack(
            [self._crop(self._images[rng.integers(len(self._images))], rng) for _ in range(BATCH)]
        )
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1

    @staticmethod
    def _crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        largest = max(
            1.0, min(height, width) / 128
        )  # a corpus image shows up to the whole short side in 128 px
        side = min(int(CROP * largest ** rng.uniform(0, 1)), height, width)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = cv2.resize(
            image[top : top + side, left : left + side], (CROP, CROP), interpolation=cv2.INTER_AREA
        )
        return np.rot90(crop[:, :: rng.choice([-1, 1])], rng.integers(4))


class PriorTrainer:
    """Network, EMA copy, AdamW with warm-up and cosine decay, and their checkpoint."""

    def __init__(self, steps: int, lr: float, seed: int):
        torch.manual_seed(seed)
        self.steps, self.step, self.seconds, self.loss = steps, 0, 0.0, float("nan")
        self.model = build_prior().to(memory_format=torch.channels_last)
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=lr, weight_decay=0.0, betas=(0.9, 0.99)
        )

        def rate(k: int) -> float:
            return min(1.0, (k + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(k / steps, 1))) / 2)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, rate)
        self.alphas = DDPMScheduler(1000, 1e-4, 0.02, "linear").alphas_cumprod

    def train(self, x: Tensor) -> float:
        """One step on x: (B, 3, H, W) in [-1, 1]; three draws in five are at low noise. Returns the loss."""
        began = time.time()
        generator = torch.Generator().manual_seed(self.step)
        low = torch.rand(len(x), generator=generator) < 0.6
        t = (torch.rand(len(x), generator=generator) * torch.where(low, LOW_NOISE, 1000)).long()
        x = F.pixel_unshuffle(x, PACK)
        noise = torch.randn(x.shape, generator=generator)
        a = self.alphas[t].reshape(-1, 1, 1, 1)
        noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = self.model(noisy, t).sample
        loss = F.mse_loss(predicted.float(), noise)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        decay = min(EMA, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.average.values()), [p.detach() for p in self.model.parameters()], 1 - decay
        )
        self.seconds += time.time() - began
        self.loss = 0.98 * self.loss + 0.02 * loss.item() if self.step > 1 else loss.item()
        return self.loss

    def export(self, folder: Path) -> None:
        """Writes the EMA weights as a diffusers folder in half precision (read back as float32)."""
        network = build_prior()
        network.load_state_dict(self.average)
        network.half().save_pretrained(folder)

    def save(self, folder: Path) -> None:
        aside = _made(folder.with_name(folder.name + ".new"))
        for name, tensors in (("model", self.model.state_dict()), ("average", self.average)):
            save_file(
                {key: tensor.contiguous() for key, tensor in tensors.items()}, aside / f"{name}.safetensors"
            )
        state = {"step": self.step, "seconds": self.seconds, "loss": self.loss}
        torch.save(
            {**state, "optimiser": self.optimiser.state_dict(), "schedule": {"last_epoch": self.step}},
            aside / "state.pt",
        )
        old = folder.with_name(folder.name + ".old")
        if folder.exists():
            _remove(old)  # what a kill has left of it
            folder.rename(old)
        aside.rename(folder)
        _remove(old)

    def load(self, folder: Path) -> None:
        """Continues from `folder`, or from the one that was being replaced; a fresh start where there is neither."""
        folder = folder if folder.exists() else folder.with_name(folder.name + ".old")
        if not folder.exists():
            return
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        average = load_file(folder / "average.safetensors")
        self.average = {
            name: average[name] for name in self.average
        }  # in the order of the parameters, not of the file
        state = torch.load(folder / "state.pt", weights_only=True)
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.last_epoch = self.step


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove(folder: Path) -> None:
    for file in folder.glob("*"):
        file.unlink()
    if folder.exists():
        folder.rmdir()
