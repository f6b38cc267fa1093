"""A photograph restored tile by tile is the one restored whole, but for what lies beyond the reach of a border."""

import numpy as np
import pytest
from skimage import data

from envs.corpus.generate import degrade
from envs.degradations import part_of
from envs.taxonomy import TAXONOMY, Degradation, taxonomy
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.pieces import LARGE, LATTICE, Mosaic, margin_of, restore_in_tiles, restorer_for
from reward_actors.restoration.presets import RESTORERS
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import psnr

BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(np.concatenate([data.astronaut(), data.astronaut()[:, ::-1]], 1)[:, :900])


@pytest.mark.parametrize("size", [(512, 512), (513, 2000), (3000, 700), (90, 1200)])
@pytest.mark.parametrize("margin", [24, 96])
def test_tiles_cover_every_pixel_and_blend_to_what_they_hold(size, margin):
    whole = np.random.default_rng(0).random((*size, 3), np.float32)
    mosaic = Mosaic(*size, margin)
    for tile in mosaic.tiles:
        assert tile.top % LATTICE == tile.left % LATTICE == 0
        mosaic.add(tile, whole[tile.window])
    assert np.allclose(mosaic.picture(), whole, atol=1e-6)


def test_what_a_border_spoils_is_thrown_away():
    """A restoration that is wrong within the margin of a border leaves no trace where the photograph has none."""
    mosaic = Mosaic(512, 1500, margin=24)
    for tile in mosaic.tiles:
        restored = np.zeros((tile.bottom - tile.top, tile.right - tile.left, 3), np.float32)
        restored[:, :24] = restored[:, -24:] = 1
        mosaic.add(tile, restored)
    assert not mosaic.picture()[:, 24:-24].any()


def test_tiles_restore_as_the_whole_does(photo):
    degraded = degrade(photo, BLUR)
    prior = photo_gaussian(*photo.shape[:2])
    tiled = restore_in_tiles(prior, RESTORERS["once"], degraded, BLUR, "name")
    (whole,) = restore_batch(prior, RESTORERS["once"], [degraded], [BLUR], ["name"])
    assert psnr((tiled * 255).round().astype(np.uint8), photo) > psnr(degraded, photo) + 1
    assert np.abs(tiled - whole).mean() < 2 / 255


def test_a_large_photograph_has_one_call_of_the_prior():
    assert restorer_for("fast", 0, LARGE).name == "fast"
    assert restorer_for("average", 0, LARGE + 1).calls == 1
    assert restorer_for("tv", 0, LARGE + 1).name == "tv"
    assert restorer_for("twice", 0, LARGE).calls == 2


def test_the_margin_grows_with_what_reaches_far():
    wide = Degradation("blur", (("sigma", 15.0),))
    assert [margin_of(each) for each in (TAXONOMY.degradation("blur", {"sigma": 8.0}), wide)] == [32, 60]
    assert margin_of(TAXONOMY.degradation("low_light", {"gamma": 2.0, "gain": 0.1})) == 24


def test_a_grid_over_the_picture_is_cut_with_it():
    grid = np.linspace(0.3, 0.9, 4)[:, None].repeat(4, 1)
    world = taxonomy(transmission_grid=4)
    haze = world.degradation("haze", {"atmospheric_light": 0.8, "transmission": grid.tolist()})
    top = part_of(haze, np.s_[0:250, 0:800], (1000, 800))
    assert np.mean(top["transmission"]) == pytest.approx(grid[0].mean(), abs=0.02)
    assert top["atmospheric_light"] == 0.8
    assert np.allclose(part_of(haze, np.s_[0:1000, 0:800], (1000, 800))["transmission"], grid, atol=0.01)
    assert part_of(BLUR, np.s_[0:10, 0:10], (20, 20)) == BLUR
