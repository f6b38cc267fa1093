"""Classical restoration, told the parameters or the type alone, against what it must be able to do."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from envs.corpus.generate import degrade
from envs.degradations import haze, low_light, low_resolution, physics
from envs.taxonomy import TAXONOMY
from reward_actors.scoring.scorer import psnr

TRUTHS = {
    "haze": {"atmospheric_light": 0.8, "transmission": 0.4},
    "low_light": {"gamma": 2.5, "gain": 0.08},
    "blur": {"sigma": 2.0},
    "low_resolution": {"scale": 3},
}


@pytest.mark.parametrize("kind", TRUTHS)
def test_every_method_restores_and_blindness_costs(photo, kind):
    truth = TAXONOMY.degradation(kind, TRUTHS[kind])
    degraded = degrade(photo, truth)
    before, unseeing = psnr(degraded, photo), psnr(physics(kind).blind(degraded), photo)
    assert unseeing > before + 0.2
    for name, method in physics(kind).classical().items():
        restored = method(degraded, truth)
        assert restored.dtype == np.float32
        assert psnr(restored, photo) > before + 0.4, name
    assert psnr(physics(kind).restore_classically(degraded, truth), photo) >= unseeing


def test_total_variation_stays_inside_what_the_data_allow(photo):
    truth = TAXONOMY.degradation("low_light", TRUTHS["low_light"])
    degraded = degrade(photo, truth)
    restored = torch.tensor(low_light.PHENOMENON.total_variation(degraded, truth)).permute(2, 0, 1)[None]
    values = {key: torch.tensor([number]) for key, number in truth.values}
    again = 255 * low_light.PHENOMENON.degrade(restored, values)[0].permute(1, 2, 0).numpy()
    assert np.abs(again - degraded).max() <= 0.5 + 1e-3  # half a grey level: rounding would give the data back


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_cells_of_an_enlarged_picture_can_be_seen(photo, scale):
    """Counting replicated rows and columns finds the grid that bicubic enlargement at the true scale uses."""
    truth = TAXONOMY.degradation("low_resolution", {"scale": scale})
    degraded, operator = degrade(photo, truth), low_resolution.PHENOMENON
    np.testing.assert_allclose(operator.blind(degraded), operator.bicubic(degraded, truth), atol=1e-6)


def test_cells_are_the_pixels_that_replication_repeats():
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    rows, columns = np.arange(13) * 5 // 13, np.arange(17) * 7 // 17
    np.testing.assert_array_equal(low_resolution.cells(small[rows][:, columns], 5, 7), small)


def test_the_guided_filter_keeps_an_edge_that_a_box_would_smear():
    step = np.zeros((32, 32), np.float32)
    step[:, 16:] = 1
    noisy = step + 0.1 * np.random.default_rng(0).standard_normal(step.shape).astype(np.float32)
    guided, box = haze.guided_filter(step, noisy, 7, 1e-3), ndimage.uniform_filter(noisy, 7)
    assert np.abs(guided - step).mean() < np.abs(noisy - step).mean() / 3
    assert np.abs(guided - step)[:, 14:18].mean() < np.abs(box - step)[:, 14:18].mean() / 3


def test_a_composite_has_the_closed_form_and_no_blind_method(photo):
    assert list(physics("haze+blur").classical()) == ["closed form"]
    np.testing.assert_allclose(physics("haze+blur").blind(photo), photo / np.float32(255))
