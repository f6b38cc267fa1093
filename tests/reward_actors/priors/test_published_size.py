"""Priors of the published sizes, 256 px, with random weights: opened, counted, and run by the engine of the rewards."""

import numpy as np
import pytest
import torch
from adm_reference import weights
from diffusers import UNet2DModel

from benchmarks.gpu.prior import PUBLISHED
from configs import load
from envs.taxonomy import TAXONOMY
from reward_actors.memory import actor_need
from reward_actors.priors.load import load_prior
from reward_actors.restoration.memory_budget import measure
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import RunningBatch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
IMAGENET = {"width": 256, "multiples": (1, 1, 2, 2, 4, 4), "residuals": 2, "attention": (8, 16, 32)}


def restored_by_fast(prior):
    """A picture after the steps of `fast`, and how many pictures went through the denoiser."""
    rng = np.random.default_rng(0)
    batch = RunningBatch(prior, restorer("fast"), capacity=1)
    degraded = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)
    batch.add("key", "sample", degraded, TAXONOMY.degradation("blur", {"sigma": 2.0}))
    done = []
    while not done:
        done = batch.step()
    return done[0][1], batch.image_steps


def test_the_network_of_celebahq_restores_with_the_memory_and_operations_that_are_planned(tmp_path):
    torch.manual_seed(0)
    UNet2DModel(**PUBLISHED).save_pretrained(tmp_path / "unet")
    planned = {part.what: part.bytes for part in actor_need(load("offline", [
        f"reward.prior={tmp_path}", "world.size=256"
    ])).host}  # fmt: skip
    assert planned["prior"] == 4 * 113_673_219
    prior = load_prior(str(tmp_path), 256)
    assert prior.flops(256) == pytest.approx(0.497e12, rel=0.01)
    assert measure(prior, 256).per_row < 1.3 * planned["denoiser call"]
    picture, calls = restored_by_fast(prior)
    assert picture.shape == (256, 256, 3)
    assert np.isfinite(picture).all()
    assert calls == restorer("fast").calls


def test_the_published_adm_network_of_256_px_is_converted_and_restores(tmp_path):
    """The file is in half precision here and the network in bfloat16: 553 million parameters, on any machine."""
    state = {name: tensor.half() for name, tensor in weights(**IMAGENET).items()}
    torch.save(state, tmp_path / "256x256_diffusion_uncond.pt")
    (tmp_path / "256x256_diffusion_uncond.json").write_text('{"head_channels": 64}')
    del state
    prior = load_prior(str(tmp_path / "256x256_diffusion_uncond.pt"), 256, dtype="bfloat16")
    assert prior.flops(256) == pytest.approx(2.2e12, rel=0.1)
    picture, calls = restored_by_fast(prior)
    assert picture.shape == (256, 256, 3)
    assert np.isfinite(picture).all()
    assert calls == restorer("fast").calls
