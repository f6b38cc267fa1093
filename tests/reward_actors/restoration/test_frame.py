"""Photographs whose scene goes on beyond the frame, and cells of replicated pixels that are cut by it."""

import numpy as np
import pytest
import skimage.data
from PIL import Image

from envs.corpus.generate import degrade
from envs.degradations import physics
from envs.degradations.common import compress
from envs.nuisances import Nuisances
from envs.taxonomy import TAXONOMY, taxonomy
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.frame import completed, extended
from reward_actors.restoration.pieces import restore_in_tiles
from reward_actors.restoration.presets import RESTORERS
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import psnr

SCENE = np.ascontiguousarray(skimage.data.coffee()[60:316, 100:356])
CUT = np.s_[64:192, 64:192]
CENTRE = np.s_[24:-24, 24:-24]
CLEAN = np.ascontiguousarray(SCENE[CUT])
BLUR = TAXONOMY.degradation("blur", {"sigma": 3.5})
MOTION = taxonomy(types=("motion_blur",)).degradation("motion_blur", {"length": 9.0, "angle": 30})


def restored(photo, answer, name="closed_form"):
    picture = restore_in_tiles(photo_gaussian(*photo.shape[:2]), RESTORERS[name], photo, answer, "a")
    return (picture * 255).round().astype(np.uint8)


@pytest.mark.parametrize(("answer", "least"), [(BLUR, 0.5), (MOTION, 2.5)], ids=["blur", "motion blur"])
def test_a_scene_that_is_cut_is_restored_nearly_as_one_that_is_mirrored(answer, least):
    """The bar, of blur: within .5 dB in the centre, and never under the given picture, border included."""
    camera = np.ascontiguousarray(degrade(SCENE, answer)[CUT])
    at_best, as_if_mirrored = (
        (restore_batch(photo_gaussian(128), RESTORERS["closed_form"], [seen], [answer], ["a"])[0] * 255).round()
        for seen in (degrade(CLEAN, answer), camera)
    )
    picture = restored(camera, answer)
    assert psnr(picture[CENTRE], CLEAN[CENTRE]) > psnr(at_best[CENTRE].astype(np.uint8), CLEAN[CENTRE]) - least
    assert psnr(picture[CENTRE], CLEAN[CENTRE]) > psnr(as_if_mirrored[CENTRE].astype(np.uint8), CLEAN[CENTRE])
    assert psnr(picture, CLEAN) > psnr(as_if_mirrored.astype(np.uint8), CLEAN) - 0.01
    assert psnr(picture, CLEAN) > psnr(camera, CLEAN) + 1


def test_the_photograph_itself_stays_in_its_larger_frame():
    camera = np.ascontiguousarray(degrade(SCENE, BLUR)[CUT])
    larger, window = extended(camera, BLUR)
    assert larger.shape == (128 + 28, 128 + 28, 3)
    assert np.array_equal(larger[window], camera)
    steps = np.abs(np.diff(larger.astype(int), axis=0)).mean((1, 2))
    assert steps[:14].max() < 2 * steps[14:-14].max()
    dark = TAXONOMY.degradation("low_light", {"gamma": 2.0, "gain": 0.2})
    assert extended(CLEAN, dark)[0] is CLEAN
    assert extended(CLEAN[:9, :9], BLUR)[0].shape == (25, 25, 3)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("quality", [100, 85])
def test_cells_that_the_frame_cuts_are_completed(scale, quality):
    answer = TAXONOMY.degradation("low_resolution", {"scale": scale})
    scene, clean = SCENE[:240, :240], SCENE[1:238, scale - 1 : 239]
    whole = degrade(np.ascontiguousarray(scene), answer)
    cut = compress(np.ascontiguousarray(whole[1:238, scale - 1 : 239]), quality, "4:4:4")
    larger, window = completed(cut, answer)
    assert larger.shape[1] % scale == 0
    assert larger.shape[0] % scale == 0 or larger.shape[0] == 237  # 118 cells of 237 px happen to begin with one of 3
    assert np.array_equal(larger[window], cut)
    (at_once,) = restore_batch(photo_gaussian(*cut.shape[:2]), RESTORERS["closed_form"], [cut], [answer], ["a"])
    aligned = restored(larger, answer)[window]
    assert psnr(aligned, clean) > psnr((at_once * 255).round().astype(np.uint8), clean) + 0.5
    assert psnr(aligned, clean) > psnr(cut, clean)
    assert completed(whole, answer)[0].shape == whole.shape


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_what_only_looks_small_does_not_fit_and_is_not_destroyed(scale):
    answer = TAXONOMY.degradation("low_resolution", {"scale": scale})
    scene = np.ascontiguousarray(SCENE[:240, :240])
    small = Image.fromarray(scene).resize((240 // scale,) * 2, Image.Resampling.BOX)
    low = physics(answer.type)
    for kernel in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        smooth = np.asarray(small.resize((240, 240), kernel))
        assert not low.fits(smooth, answer)
        assert psnr(restored(smooth, answer), smooth) > 25  # one pixel of each cell gave 22 dB and less
    assert not low.fits(scene, answer)
    common = degrade(scene, answer, nuisances=Nuisances(sensor_noise=3.0, jpeg_quality=85))
    assert low.fits(degrade(scene, answer), answer)
    assert low.fits(common, answer)


def test_cells_are_averaged_and_equal_pixels_stay_what_they_are():
    """Under JPEG the mean of a cell holds less noise than one of its pixels; exact data are read back to the bit."""
    from envs.degradations.common import as_batch
    from envs.degradations.low_resolution import _small_grid, cells

    answer = TAXONOMY.degradation("low_resolution", {"scale": 3})
    exact = degrade(np.ascontiguousarray(SCENE[:240, :240]), answer)
    grid = _small_grid(as_batch(exact), 3)
    assert np.array_equal(grid[0].permute(1, 2, 0).numpy(), as_batch(cells(exact, 80, 80))[0].permute(1, 2, 0).numpy())
    for scale in (2, 4):  # an answer may be wrong: what rewards make of it does not depend on means
        picked = np.ix_(*[(-(np.arange(240 // scale) * -240 // (240 // scale))) for _ in range(2)])
        other = _small_grid(as_batch(exact), scale)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(other, as_batch(exact)[0].permute(1, 2, 0).numpy()[picked])
    coded = as_batch(compress(exact, 85))
    error = (_small_grid(coded, 3) - grid).square().mean()
    assert error < 0.6 * (coded[..., ::3, ::3] - grid).square().mean()
