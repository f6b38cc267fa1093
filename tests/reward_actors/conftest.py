"""A photograph, a small network and a Gaussian world, and a pool to share, for the tests of the restoration engine."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import UNet2DModel
from sharing import light, settings, until

from configs.cluster import scaling as control
from envs.degradations import degrade
from envs.taxonomy import TAXONOMY
from envs.types import Sample
from reward_actors.pool.shared.client import open_pool
from reward_actors.pool.shared.job import create
from reward_actors.priors.gaussian import GaussianPrior
from reward_actors.priors.unet import UNetPrior

torch.set_num_threads(1)

ANSWERS = {
    "haze": {"atmospheric_light": 0.7, "transmission": 0.4},
    "low_light": {"gamma": 2.5, "gain": 0.08},
    "blur": {"sigma": 1.2},
    "low_resolution": {"scale": 2},
}


@pytest.fixture(scope="session")
def answers():
    """One degradation of each type."""
    return [TAXONOMY.degradation(name, values) for name, values in ANSWERS.items()]


@pytest.fixture(scope="session")
def photo():
    """uint8 (64, 64, 3), a face."""
    return np.ascontiguousarray(skimage.data.astronaut()[80:144, 190:254])


@pytest.fixture(scope="session")
def degraded(photo, answers):
    """The photograph as each answer leaves it, uint8."""
    clean = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    spoilt = degrade(clean.expand(len(answers), -1, -1, -1), answers)
    return [(picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for picture in spoilt]


@pytest.fixture(scope="session")
def samples(photo, degraded, answers):
    return [
        Sample(f"{answer.type}-0", "astronaut", "test", picture, photo, answer)
        for picture, answer in zip(degraded, answers, strict=True)
    ]


@pytest.fixture(scope="session")
def network():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=32, in_channels=12, out_channels=12, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=8,
    )  # fmt: skip


@pytest.fixture(scope="session")
def unet_prior(network):
    return UNetPrior(network)


@pytest.fixture(scope="session")
def gaussian_world():
    """A prior that is exactly true of `draw`n pictures: grey, with a falling spectrum, well inside [0, 1]."""
    return GaussianWorld(32)


class GaussianWorld:
    def __init__(self, size: int):
        f2 = (torch.arange(size)[:, None] / size) ** 2 + (torch.arange(size)[None] / size) ** 2
        self.size, self.power = size, 0.02 / (f2 + 0.01)
        self.power[0, 0] = self.power[0, 1]
        self.prior = GaussianPrior(torch.zeros(1, 1, 1), self.power)

    def draw(self, seed: int) -> torch.Tensor:
        """(1, 3, size, size) on [0, 1]."""
        from envs.degradations.common import idct2

        generator = torch.Generator().manual_seed(seed)
        coefficients = torch.randn(1, 3, self.size, self.size, generator=generator) * self.power.sqrt()
        return (idct2(coefficients) + 1) / 2


@pytest.fixture(scope="module")
def host(ray_cluster):
    """A pool `shared` of one actor that holds one query; a client that is silent for two seconds counts as dead."""
    host = create(replace(settings(actors=1), name="shared"), silent=2.0, actor_class=light())
    ray_cluster.get(host.open.remote())
    yield host
    ray_cluster.kill(host)
    asyncio.run(until(_no_pool))


async def _no_pool():
    return not control.pools()


@pytest.fixture
def share(host, ray_cluster):
    """Runs `work(a, b)` on two clients of the pool; afterwards they are gone, and the pool is not."""

    def run(work):
        async def scene():
            pools = [open_pool(settings(pool="shared")) for _ in "ab"]
            try:
                await asyncio.gather(*(pool.start() for pool in pools))
                return await asyncio.wait_for(work(*pools), 60)
            finally:
                await asyncio.gather(*(pool.close() for pool in pools))

        before = ray_cluster.get(host.processes.remote())
        result = asyncio.run(scene())
        stats = ray_cluster.get(host.stats.remote())
        assert (stats.queued, stats.clients) == (0, {})
        assert ray_cluster.get(host.processes.remote()) == before
        return result

    return run
