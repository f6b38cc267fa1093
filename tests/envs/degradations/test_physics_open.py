"""Motion blur, noise and JPEG: operators against their algebra, and restorations against what they must gain."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import WORLDS
from envs.corpus.generate import degrade
from envs.degradations import closed_form, jpeg, motion_blur, noise, physics, project
from envs.degradations.common import as_batch, compress
from envs.taxonomy import taxonomy
from reward_actors.scoring.scorer import psnr

torch.set_num_threads(1)
OPEN = taxonomy(**WORLDS["open"])
RIGHT_AND_WRONG = {
    "motion_blur": [({"length": 8.0, "angle": 30}, {"length": 12.0, "angle": 30})],
    "noise": [({"noise_level": 8.0}, {"noise_level": 40.0}), ({"noise_level": 25.0}, {"noise_level": 5.0})],
    "jpeg": [({"quality": 10}, {"quality": 80}), ({"quality": 30}, {"quality": 5})],
}
CASES = [(name, *pair) for name, pairs in RIGHT_AND_WRONG.items() for pair in pairs]


def restored(picture, type_name, values):
    return closed_form(as_batch(picture), [OPEN.degradation(type_name, values)])[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("type_name", "right", "wrong"), CASES)
def test_a_right_answer_restores_and_a_wrong_one_restores_less(photo, type_name, right, wrong):
    degraded = degrade(photo, OPEN.degradation(type_name, right))
    better, worse = (psnr(restored(degraded, type_name, values), photo) for values in (right, wrong))
    assert better > psnr(degraded, photo) + 0.02
    assert better > worse + 0.02


@pytest.mark.parametrize(("type_name", "right", "wrong"), CASES)
def test_classical_methods_restore(photo, type_name, right, wrong):
    truth = OPEN.degradation(type_name, right)
    degraded = degrade(photo, truth)
    for name, method in physics(type_name).classical().items():
        assert psnr(method(degraded, truth), photo) > psnr(degraded, photo) + 0.02, name


@settings(max_examples=15)
@given(
    length=st.floats(2, 20), other=st.floats(2, 20), angle=st.floats(0, 180), height=st.integers(17, 40),
    width=st.integers(17, 40),
)
def test_lines_have_their_adjoint_and_keep_the_mean_colour(length, other, angle, height, width):
    values = {"length": torch.tensor([length, other]), "angle": torch.tensor([angle, 90.0])}
    lines = motion_blur.Lines(values, height, width)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, height, width, generator=generator).unbind()
    left, right = (lines.forward(x) * y).sum((1, 2, 3)), (x * lines.adjoint(y)).sum((1, 2, 3))
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(lines.forward(torch.full_like(x, 0.4)), torch.full_like(x, 0.4), atol=1e-5, rtol=0)


def test_a_line_along_a_row_is_a_box_and_turns_with_its_angle():
    flat = motion_blur.line(5.0, 0.0, 4)
    assert flat[4].sum() == pytest.approx(1)
    np.testing.assert_allclose(flat[4, 3:6], 0.2, atol=1e-3)
    np.testing.assert_allclose(motion_blur.line(5.0, 90.0, 4), flat.T, atol=1e-6)
    rising = motion_blur.line(9.0, 45.0, 6)
    assert rising[3, 9] > 0.05 > rising[9, 9]  # anticlockwise: to the right is up


def test_rows_with_different_lines_are_what_each_is_alone(photo):
    pair = [OPEN.degradation("motion_blur", {"length": n, "angle": a}) for n, a in ((6.0, 20), (11.0, 130))]
    y = torch.cat([as_batch(degrade(photo, one)) for one in pair])
    together = closed_form(y, pair)
    for row, one in enumerate(pair):
        difference = together[row] - closed_form(y[row : row + 1], [one])[0]
        assert difference.abs().max() * 255 < 1e-3


def test_with_all_trust_in_the_data_motion_blur_gives_them_back(photo):
    truth = [OPEN.degradation("motion_blur", {"length": 7.0, "angle": 75})]
    y = as_batch(degrade(photo, truth[0]))
    x = project(torch.full_like(y, 0.5), y, truth, torch.tensor([1e3]))
    again = motion_blur.PHENOMENON.degrade(x, {"length": torch.tensor([7.0]), "angle": torch.tensor([75.0])})
    assert (again - y).abs().mean() * 255 < 2  # this photograph is busier than the mean one, so some counts as noise


@pytest.mark.parametrize("level", [5.0, 20.0])
def test_noise_follows_from_picture_and_level_alone_and_has_that_level(photo, level):
    truth = OPEN.degradation("noise", {"noise_level": level})
    x = torch.full((1, 3, 96, 96), 0.5)
    drawn = noise.PHENOMENON.degrade(x, {"noise_level": torch.tensor([level])}) - x
    assert float(drawn.std()) * 255 == pytest.approx(level, rel=0.02)
    assert abs(float(drawn.mean())) * 255 < 0.1
    np.testing.assert_array_equal(degrade(photo, truth), degrade(photo, truth))
    assert (degrade(photo, truth) != degrade(photo[:, ::-1].copy(), truth)[:, ::-1]).mean() > 0.5
    assert noise.laplacian_level(degrade(np.full((96, 96, 3), 128, np.uint8), truth) / 255) * 255 == pytest.approx(
        level, rel=0.1
    )


def test_noise_trusts_the_data_as_much_as_the_prior_is_wrong(photo):
    truth = [OPEN.degradation("noise", {"noise_level": 20.0})]
    y = as_batch(degrade(photo, truth[0]))
    x0 = torch.full_like(y, 0.5)
    moved = [float((project(x0, y, truth, torch.tensor([s])) - x0).abs().mean()) for s in (0.001, 0.05, 1.0)]
    assert moved[0] < 1e-3 < moved[1] < moved[2]


@pytest.mark.parametrize("quality", [5, 30, 70])
@pytest.mark.parametrize("side", [64, 75])
def test_the_cells_of_jpeg_hold_the_truth_and_a_projection_stays(photo, quality, side):
    clean = np.ascontiguousarray(photo[:side, : side + 4])
    truth = [OPEN.degradation("jpeg", {"quality": quality})]
    x, y = as_batch(clean), as_batch(degrade(clean, truth[0]))
    level = torch.tensor([0.1])
    moved = (project(x, y, truth, level) - x).square().mean().sqrt() * 255
    assert moved < 1.3  # the encoder works with whole levels and clips: some coefficients lie in the cell beside
    once = project(torch.full_like(y, 0.5), y, truth, level)
    assert (once - y).square().mean() < (0.5 - y).square().mean() / 4
    torch.testing.assert_close(project(once, y, truth, level), once, atol=0.1, rtol=0)


def test_the_tables_are_those_of_the_encoder(photo):
    assert jpeg.tables(50)[0, 0, :4].tolist() == [16, 11, 10, 16]
    assert (jpeg.tables(100) == 1).all()
    assert np.abs(compress(photo, 100, "4:4:4").astype(int) - photo).max() <= 4
