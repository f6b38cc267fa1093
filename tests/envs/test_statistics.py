"""The view `statistics`: a chart of numbers that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from envs import spectra, statistics
from envs.corpus.generate import degrade
from envs.degradations.common import compress
from envs.observation import views
from envs.spectra import QUALITIES, SIGMAS
from envs.statistics import measure
from envs.taxonomy import taxonomy

OPEN = taxonomy(types=["haze", "low_light", "blur", "low_resolution", "motion_blur", "noise", "jpeg", "none"])


@pytest.fixture
def scene():
    """128 px with the spectrum of a photograph, colours apart."""
    rng = np.random.default_rng(3)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)) + 1 / 128
    planes = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(128, 128))) / frequency**1.3).real for _ in range(3)]
    common = planes[0] / planes[0].std()
    picture = np.stack([common + 0.2 * each / each.std() for each in planes], 2)
    return (picture * 45 + 120).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(128, 128), (64, 64), (256, 256), (96, 160)])
def test_chart_has_the_size_of_the_picture(scene, shape):
    picture = np.ascontiguousarray(np.tile(scene, (2, 2, 1))[: shape[0], : shape[1]])
    chart = views(picture, ["statistics"])[0]
    assert chart.shape == picture.shape
    assert chart.dtype == np.uint8
    np.testing.assert_array_equal(chart, views(picture.copy(), ["statistics"])[0])


def test_every_number_has_a_cell_and_few_leave_their_range(scene):
    numbers = measure(scene)
    assert len(numbers) <= statistics.CELLS**2
    assert np.isfinite(numbers).all()
    assert ((numbers < -0.01) | (numbers > 1.01)).mean() < 0.05


@pytest.mark.parametrize("picture", [np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
def test_empty_pictures_have_a_chart(picture):
    assert views(picture, ["statistics"])[0].shape == picture.shape


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_evidence_has_its_top_near_the_true_sigma(scene, sigma):
    blurred = degrade(scene, OPEN.degradation("blur", {"sigma": sigma}))
    luminance = blurred.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
    curve = spectra.evidence(luminance)[len(SIGMAS) : 2 * len(SIGMAS)]
    assert SIGMAS[curve.argmax()] == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize("quality", [20, 45, 70, 90])
def test_quality_of_a_jpeg_fits_best_where_it_is(scene, quality):
    luma = np.stack([compress(scene, quality) @ np.float32([0.299, 0.587, 0.114])] * 3, 2).astype(np.float32)
    fits = spectra.blocks(luma)[128:, 0]
    assert abs(QUALITIES[fits.argmax()] - quality) <= 5


def test_noise_is_read_off_the_details(scene):
    smooth = degrade(scene, OPEN.degradation("blur", {"sigma": 3.0}))
    levels = []
    for level in (5.0, 10.0, 20.0):
        noisy = degrade(smooth, OPEN.degradation("noise", {"noise_level": level}))
        levels.append(2.0 ** (statistics._noise(noisy.astype(np.float32))[2].mean() * 10 - 3) / 0.6745)
    np.testing.assert_allclose(levels, [5.0, 10.0, 20.0], rtol=0.15)
