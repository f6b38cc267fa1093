"""The header of a JPEG file says in which cells its coefficients lie, and what noise rounding to them has left."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from envs.degradations import closed_form, project
from envs.degradations.common import as_batch
from envs.degradations.jpeg import coding_of, with_coding
from envs.taxonomy import taxonomy

WORLD = taxonomy(types=["blur", "jpeg", "none"])
JPEG = WORLD.degradation("jpeg", {"quality": 85})
FLAT = [[12] * 64, [20] * 64]
"""Tables that no quality stands for."""


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[64:192, 160:320])


def written(picture: np.ndarray, **options) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **options)
    return Image.open(file)


@pytest.mark.parametrize(("subsampling", "reduction"), [("4:4:4", (1, 1)), ("4:2:2", (1, 2)), ("4:2:0", (2, 2))])
def test_tables_and_subsampling_are_those_of_the_file(clean, subsampling, reduction):
    found = coding_of(written(clean, qtables=FLAT, subsampling=subsampling))
    assert found.reduction == reduction
    assert np.array_equal(found.steps, np.float32(FLAT).reshape(2, 8, 8))
    assert found.aligned


def test_other_pictures_have_no_header(clean):
    assert coding_of(Image.fromarray(clean)) is None
    gray = coding_of(written(clean[..., 0], quality=80))
    assert gray.steps[0] == gray.steps[1]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_truth_lies_in_the_cells_of_the_file_which_restore_better_than_those_of_a_quality(clean, subsampling):
    image = written(clean, qtables=FLAT, subsampling=subsampling)
    x, y, level = as_batch(clean), as_batch(np.array(image.convert("RGB"))), torch.ones(1)
    known = with_coding(JPEG, coding_of(image))
    assert float((project(x, y, [known], level) - x).abs().mean()) < 0.75 / 255
    by_header, by_quality = (float((closed_form(y, [each]) - x).square().mean()) for each in (known, JPEG))
    assert by_header < by_quality
    assert by_header < float((y - x).square().mean())


def test_answers_with_and_without_a_header_share_a_batch(clean):
    images = [written(clean, quality=40, subsampling=each) for each in ("4:4:4", "4:2:0")]
    y = torch.cat([as_batch(np.array(image.convert("RGB"))) for image in images])
    answers = [with_coding(JPEG, coding_of(image)) for image in images]
    level = torch.ones(2)
    together = project(y, y, answers, level)
    for i, answer in enumerate(answers):
        assert torch.allclose(together[i : i + 1], project(y[i : i + 1], y[i : i + 1], [answer], level[:1]), atol=1e-5)
    mixed = project(y, y, [answers[0], JPEG], level)
    assert torch.allclose(mixed[:1], together[:1], atol=1e-5)


def test_a_file_that_was_compressed_harder_before_is_taken_at_the_answer(clean):
    assert with_coding(JPEG, coding_of(written(clean, quality=97))) == JPEG
    assert with_coding(JPEG, None) == JPEG
    assert with_coding(WORLD.degradation("blur", {"sigma": 2.0}), coding_of(written(clean, quality=50))).type == "blur"


@pytest.mark.parametrize("quality", [95, 92, 85])
def test_the_noise_is_about_what_rounding_left(clean, quality):
    image = written(clean, quality=quality, subsampling="4:4:4")
    left = float(np.std(np.array(image.convert("RGB")).astype(float) - clean)) / 255
    assert 0.6 * left < coding_of(image).noise_in(np.array(image.convert("RGB"))) < 2.2 * left


def test_a_picture_that_was_turned_keeps_its_noise_and_loses_its_cells(clean):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = coding_of(written(clean, quality=80, exif=exif))
    assert not turned.aligned
    assert turned.noise_in(clean) > 1 / 255
    assert with_coding(JPEG, turned) == JPEG
