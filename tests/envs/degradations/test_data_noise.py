"""Operators that are told the noise of their data, and what a picture alone says of it."""

import numpy as np
import pytest
import skimage.data
import torch

from envs.degradations import QUANTISATION, closed_form, degrade, estimate_noise, project, quantise
from envs.taxonomy import TAXONOMY, taxonomy

ANSWERS = [
    TAXONOMY.degradation("haze", {"atmospheric_light": 0.7, "transmission": 0.6}),
    TAXONOMY.degradation("low_light", {"gamma": 2.0, "gain": 0.5}),
    TAXONOMY.degradation("blur", {"sigma": 2.0}),
    TAXONOMY.degradation("low_resolution", {"scale": 2}),
]
COMPOSITE = taxonomy(composites=2).degradation(
    "haze+blur", {"atmospheric_light": 0.7, "transmission": 0.6, "sigma": 2.0}
)


@pytest.fixture(scope="module")
def clean():
    """(1, 3, 128, 128) in [0, 1], a face and sky."""
    return torch.tensor(skimage.data.astronaut()[40:168, 160:288].copy()).permute(2, 0, 1)[None] / 255


def noisy(clean, answer, level):
    """The degraded picture with white noise of `level` grey levels; replicated pixels have the same noise."""
    y = degrade(clean, [answer])
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)) * level / 255
    if answer.type == "low_resolution":
        noise = noise[..., ::2, ::2].repeat_interleave(2, -2).repeat_interleave(2, -1)
    return quantise(y + noise)


@pytest.mark.parametrize("answer", [*ANSWERS, COMPOSITE], ids=lambda answer: answer.type)
def test_rounding_is_the_noise_of_data_unless_another_is_told(clean, answer):
    y = degrade(clean, [answer])
    level, rounding = torch.tensor([0.05]), torch.tensor([QUANTISATION])
    assert torch.allclose(closed_form(y, [answer]), closed_form(y, [answer], rounding), atol=1e-4)
    told = project(clean, y, [answer], level, rounding)
    assert torch.allclose(project(clean, y, [answer], level), told, atol=1e-4)


@pytest.mark.parametrize("answer", [*ANSWERS, COMPOSITE], ids=lambda answer: answer.type)
@pytest.mark.parametrize("level", [3, 8])
def test_the_noise_of_a_picture_is_read_from_the_picture(clean, answer, level):
    y = noisy(clean, answer, level)
    tolerance = 0.75 if level == 3 else 0.3  # the photograph has grain of its own
    assert 255 * float(estimate_noise(y, [answer])) == pytest.approx(level, rel=tolerance)
    assert torch.equal(estimate_noise(y, [answer]), estimate_noise(y.expand(2, -1, -1, -1), [answer] * 2)[:1])


@pytest.mark.parametrize("answer", [ANSWERS[0], ANSWERS[2], COMPOSITE], ids=lambda answer: answer.type)
def test_a_picture_without_noise_has_little_more_than_that_of_rounding(clean, answer):
    assert 1 <= float(estimate_noise(degrade(clean, [answer]), [answer])) / QUANTISATION < 4


def test_a_blurred_noisy_picture_is_restored_better_by_who_knows_its_noise(clean):
    answer = ANSWERS[2]
    y = noisy(clean, answer, 3)
    errors = [
        float((restored - clean).square().mean())
        for restored in (closed_form(y, [answer]), closed_form(y, [answer], estimate_noise(y, [answer])))
    ]
    assert 10 * np.log10(errors[0] / errors[1]) > 3


def test_a_prior_is_trusted_the_more_the_noisier_the_data(clean):
    for answer in ANSWERS[:1] + ANSWERS[2:]:
        y = noisy(clean, answer, 8)
        level = torch.tensor([0.02])
        moved = [
            float((project(clean, y, [answer], level, torch.tensor([sigma])) - clean).square().mean())
            for sigma in (QUANTISATION, 8 / 255, 0.2)
        ]
        assert moved[0] > moved[1] > moved[2]
