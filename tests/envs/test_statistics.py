"""The view `statistics`: a chart of numbers that mean what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from envs import spectra, statistics
from envs.corpus.generate import degrade
from envs.degradations.common import compress
from envs.observation import views
from envs.statistics import measure
from envs.taxonomy import taxonomy

LUMINANCE = np.float32([0.299, 0.587, 0.114])
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


def test_every_visual_token_shows_every_number(scene):
    chart = views(scene, ["statistics"])[0]
    tiles = chart.reshape(4, 32, 4, 32, 3).transpose(0, 2, 1, 3, 4)
    assert (tiles == tiles[0, 0]).all()
    numbers = measure(scene)
    assert len(numbers) <= statistics.SIDE**2 * 3
    assert np.isfinite(numbers).all()
    assert len(json.loads(statistics.TABLE.read_text())["mean"]) == len(numbers)


def test_numbers_are_standardised_over_a_corpus(scene, tmp_path, monkeypatch):
    pictures = [np.roll(scene, shift, 0) // part for shift in (0, 31, 64) for part in (1, 2, 4)]
    statistics.write_table(pictures, tmp_path / "table.json")
    monkeypatch.setattr(statistics, "_table", lambda: _read(tmp_path / "table.json"))
    charts = np.stack([views(picture, ["statistics"])[0][:32:4, :32:4] for picture in pictures]) / 127.5 - 1
    numbers = charts.reshape(len(pictures), -1)[:, : len(measure(scene))] * statistics.REACH
    np.testing.assert_allclose(numbers.mean(0), 0, atol=0.1)
    assert np.median(numbers.std(0)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("picture", [np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
def test_empty_pictures_have_a_chart(picture):
    assert views(picture, ["statistics"])[0].shape == picture.shape


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_evidence_has_its_top_near_the_true_sigma(scene, sigma):
    blurred = degrade(scene, OPEN.degradation("blur", {"sigma": sigma}))
    found = spectra.blur_evidence(blurred.astype(np.float32) @ LUMINANCE, 0.3)
    assert 2 ** found[5] == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize(("length", "angle"), [(8, 20), (12, 80), (12, 140)])
def test_motion_is_read_with_its_direction(scene, length, angle):
    moved = degrade(scene, OPEN.degradation("motion_blur", {"length": length, "angle": angle}))
    found = spectra.motion_evidence(moved.astype(np.float32) @ LUMINANCE, 0.3)
    assert 2 ** found[0] == pytest.approx(length, rel=0.3)
    turned = np.degrees(np.arctan2(found[2], found[1])) / 2 % 180
    assert abs((turned - angle + 90) % 180 - 90) < 15
    still = spectra.motion_evidence(scene.astype(np.float32) @ LUMINANCE, 0.3)
    assert found[3] > still[3]


@pytest.mark.parametrize("quality", [20, 45, 70, 90])
def test_quality_of_a_jpeg_fits_best_where_it_is(scene, quality):
    luma = np.stack([compress(scene, quality) @ LUMINANCE] * 3, 2)
    assert spectra.blocks(luma)[11] * 100 == pytest.approx(quality, abs=5)


def test_noise_is_read_off_the_details(scene):
    smooth = degrade(scene, OPEN.degradation("blur", {"sigma": 3.0}))
    for level in (5.0, 10.0, 20.0):
        noisy = degrade(smooth, OPEN.degradation("noise", {"noise_level": level}))
        assert statistics._noise_level(noisy[..., 1].astype(np.float32)) == pytest.approx(level, rel=0.15)


def _read(file):
    content = json.loads(file.read_text())
    return np.float32(content["mean"]), np.float32(content["spread"])
