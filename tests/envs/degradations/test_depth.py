"""Haze that follows depth: where depth comes from, the map it makes, and what a grid of it is worth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs import UserError
from envs.degradations import closed_form, degrade, depth, draw, haze, project
from envs.environment import OfflineEnvironment
from envs.language.answer import Answer, parse, write
from envs.metrics import measure
from envs.taxonomy import TAXONOMY, taxonomy
from envs.types import Completion, Prompt, RewardQuery

torch.set_num_threads(1)
GRID4 = taxonomy(transmission_grid=4)
WORLDS = {grid: taxonomy(transmission_grid=grid) for grid in (1, 4, 8)}
SIZE = 128
DATA = Path(skimage.__file__).parent / "data"


def photographs():
    """uint8 (128, 128, 3) crops of five photographs that ship with scikit-image."""
    for picture, (top, left, side) in (
        (skimage.data.astronaut(), (0, 64, 384)),
        (skimage.data.chelsea(), (0, 80, 300)),
        (skimage.data.coffee(), (0, 100, 400)),
        (skimage.data.rocket(), (20, 120, 400)),
        (skimage.io.imread(DATA / "motorcycle_left.png")[..., :3], (0, 120, 500)),
    ):
        crop = np.ascontiguousarray(picture[top : top + side, left : left + side])
        yield cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def as_batch(photo):
    return torch.tensor(photo).permute(2, 0, 1)[None].float() / 255


def restored_psnr(photo, relative, seed):
    """{grid: PSNR of the closed form at true values}, the same hazy picture for each."""
    x = as_batch(photo)
    found = {}
    for grid, world in WORLDS.items():
        truth, t = depth.sample(world, "haze", np.random.default_rng(seed), SIZE, relative)
        y = degrade(x, [truth], torch.tensor(t)[None])
        found[grid] = float(-10 * (closed_form(y, [truth]) - x).square().mean().log10())
    return found


def assert_grids_pay(gains):
    """gains: one `restored_psnr` a picture."""
    mean = {grid: np.mean([found[grid] for found in gains]) for grid in WORLDS}
    assert mean[4] >= mean[1] + 2.5, mean
    assert mean[8] > mean[4], mean


@pytest.mark.parametrize("kind", depth.KINDS)
def test_a_4x4_grid_restores_better_than_a_number_by_2_5_db_and_8x8_better_still(kind):
    drawn = [depth.procedural(np.random.default_rng(i), SIZE, SIZE, kind) for i in range(5)]
    assert_grids_pay([restored_psnr(p, d, i) for i, (p, d) in enumerate(zip(photographs(), drawn, strict=True))])


def test_grids_pay_on_a_measured_disparity_too(tmp_path):
    """The Middlebury motorcycle, its disparity in a file beside the photo, unknown pixels included."""
    photo = skimage.io.imread(DATA / "motorcycle_left.png")[..., :3]
    np.save(tmp_path / "motorcycle.disparity.npy", np.load(DATA / "motorcycle_disp.npz")["arr_0"])
    whole = depth.read_depth(tmp_path / "motorcycle.png", *photo.shape[:2])
    gains = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        side = int(rng.integers(250, 500))
        top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        square = np.ascontiguousarray(photo[top : top + side, left : left + side])
        square = cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        gains.append(restored_psnr(square, depth.cropped(whole, top, left, side, SIZE), seed))
    assert_grids_pay(gains)


@given(seed=st.integers(0, 999), mean=st.floats(0.1, 0.95), size=st.tuples(st.integers(17, 60), st.integers(17, 60)))
def test_the_map_has_the_mean_that_was_asked_for_and_falls_with_depth(seed, mean, size):
    relative = depth.procedural(np.random.default_rng(seed), *size)
    assert relative.shape == size
    assert relative.dtype == np.float32
    assert relative.min() > 0
    assert relative.mean(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    t = depth.transmission_map(relative, mean)
    assert t.mean(dtype=np.float64) == pytest.approx(mean, abs=2e-5)
    assert t.min() >= haze.THINNEST - 1e-5
    assert t.max() <= 1
    order = np.argsort(relative, axis=None)
    assert (np.diff(t.ravel()[order]) <= 0).all()
    thin = t > haze.THINNEST + 1e-3  # -log t is proportional to depth
    beta = -np.log(t[thin].astype(np.float64)) / relative[thin]
    assert np.ptp(beta) <= 1e-3 * beta.mean() + 2e-4 / relative.min()


@given(seed=st.integers(0, 999), size=st.tuples(st.integers(17, 60), st.integers(17, 60)))
def test_a_kept_map_is_the_map_and_gives_the_picture_again_to_the_byte(seed, size):
    rng = np.random.default_rng(seed)
    relative = depth.procedural(rng, *size)
    truth, t = depth.sample(GRID4, "haze", rng, SIZE, relative)
    kept = depth.decode_map(depth.encode_map(t))
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, t)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    first, again = (degrade(x, [truth], torch.tensor(m)[None]) for m in (t, kept))
    assert torch.equal(first, again)
    light = truth["atmospheric_light"]
    exact = t.astype(np.float64) * x[0].double().numpy() + light * (1 - t.astype(np.float64))
    assert np.abs(first[0].numpy() - exact).max() <= 0.5 / 255 + 1e-5


@given(seed=st.integers(0, 99), size=st.tuples(st.integers(17, 60), st.integers(17, 60)), grid=st.integers(2, 8))
def test_a_grid_holds_the_block_means_and_the_map_made_of_it_keeps_them(seed, size, grid):
    relative = depth.procedural(np.random.default_rng(seed), *size)
    t = depth.transmission_map(relative, 0.5)
    means = haze.block_means(t, grid)
    edges = [[(i * n // grid, -(-(i + 1) * n // grid)) for i in range(grid)] for n in size]
    for i, (top, bottom) in enumerate(edges[0]):
        for j, (left, right) in enumerate(edges[1]):
            assert means[i, j] == pytest.approx(t[top:bottom, left:right].mean(dtype=np.float64), abs=1e-6)
    values = {"transmission": torch.tensor(means, dtype=torch.float32)[None], "atmospheric_light": torch.tensor([1.0])}
    made, _ = haze._maps(torch.zeros(1, 3, *size), values)
    if made.min() > haze.THINNEST and made.max() < 1:  # not clipped
        np.testing.assert_allclose(haze.block_means(made[0, 0].numpy(), grid), means, atol=1e-5)


def test_the_mean_transmission_follows_the_same_law_with_depth_as_without():
    drawn = [draw(TAXONOMY["haze"], np.random.default_rng(i), SIZE)["transmission"] for i in range(40)]
    for world in (TAXONOMY, GRID4):
        for i, mean in enumerate(drawn):
            relative = depth.procedural(np.random.default_rng(i), 40, 40)
            truth, t = depth.sample(world, "haze", np.random.default_rng(i), SIZE, relative)
            assert t.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-4)
            assert np.mean(truth["transmission"]) == pytest.approx(mean, abs=0.0051)


def test_depth_is_for_haze_alone_and_without_depth_nothing_changes():
    from envs.degradations import sample

    relative = depth.procedural(np.random.default_rng(0), 32, 32)
    for kind in TAXONOMY.types:
        plain = sample(TAXONOMY, kind.name, np.random.default_rng(5), SIZE)
        assert depth.sample(TAXONOMY, kind.name, np.random.default_rng(5), SIZE, None) == (plain, None)
        found, t = depth.sample(TAXONOMY, kind.name, np.random.default_rng(5), SIZE, relative)
        assert (t is not None) == (kind.name == "haze")
        assert found.type == plain.type
        assert kind.name == "haze" or found == plain


def test_a_grid_goes_through_answer_gate_measures_and_restoration(photo):
    relative = depth.procedural(np.random.default_rng(1), 128, 128)
    truth, t = depth.sample(GRID4, "haze", np.random.default_rng(1), SIZE, relative)
    text = write(truth, GRID4)
    assert text.count("[V-") == 17
    found = parse(text, GRID4)
    assert isinstance(found, Answer)
    assert found.degradation == truth
    prompt = Prompt("s", None)
    judge = OfflineEnvironment([prompt], {"s": truth}, GRID4).judge
    assert isinstance(judge(prompt, Completion(text, (), ())), RewardQuery)
    fewer = text.rpartition("[V-")[0]
    assert judge(prompt, Completion(fewer, (), ())).reason == "wrong_shape"
    measured = measure([truth], [found.degradation], GRID4)
    assert (measured.j_acc, measured.p_rel) == (1, 0)
    x = as_batch(photo)
    y = degrade(x, [truth], torch.tensor(t)[None])
    again = degrade(project(x, y, [truth], torch.tensor([1e3])), [truth])
    assert (again - y).abs().max() <= 1.01 / 255


# ---- files


def test_a_16_bit_depth_is_read_as_ratios_and_what_is_unknown_takes_the_nearest(tmp_path):
    numbers = np.full((20, 30), 1000, np.uint16)
    numbers[:, 15:] = 3000
    numbers[5, 3] = numbers[6, 20] = 0
    cv2.imwrite(str(tmp_path / "street.depth.png"), numbers)
    found = depth.read_depth(tmp_path / "street.jpg", 20, 30)
    assert np.unique(found.round(4)).tolist() == [0.5, 1.5]
    assert depth.read_depth(tmp_path / "street.jpg", 40, 60).shape == (40, 60)


def test_a_square_of_a_photo_has_the_depth_of_that_square(tmp_path):
    numbers = np.ones((60, 90))
    numbers[:, 60:] = 4
    np.save(tmp_path / "a.depth.npy", numbers)
    rng = np.random.default_rng(0)

    def of(source, square):
        return depth.relative(source, tmp_path / "a.jpg", (60, 90, 3), square, 32, rng)

    assert of("none", (0, 0, 60)) is None
    assert of("file", (0, 0, 50)) == pytest.approx(np.ones((32, 32)), rel=1e-5)
    found = of("file", (10, 40, 40))
    assert found.shape == (32, 32)
    assert found[:, -1] == pytest.approx(4 * found[:, 0], rel=1e-5)
    drawn = depth.procedural(np.random.default_rng(7), 32, 32)
    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(of("procedural", (0, 0, 50)), drawn)


def test_disparity_is_the_inverse_of_depth_and_no_infinity(tmp_path):
    numbers = np.array([[4.0, 2.0, 1.0, 1e-6, np.nan]] * 5)
    np.save(tmp_path / "a.disparity.npy", numbers)
    found = depth.read_depth(tmp_path / "a.png", 5, 5)[0]
    assert found[1] / found[0] == pytest.approx(2, rel=1e-5)
    assert found[3] / found[0] == pytest.approx(1 / depth.FARTHEST, rel=1e-5)
    assert found[4] == found[3]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("b.depth.npy", np.ones((5, 9)), "expected the shape"),
        ("b.depth.npy", np.zeros((5, 5)), "holds no depth"),
        ("b.depth.npy", np.array(["x"]), "no depth map"),
        ("b.depth.png", b"no picture", "no depth map"),
        ("b.depth.npy", b"no array", "cannot be read"),
        ("other.depth.npy", np.ones((5, 5)), "has no depth"),
    ],
)
def test_a_depth_that_is_none_is_refused_with_what_was_expected(tmp_path, name, content, word):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(UserError, match=word):
        depth.read_depth(tmp_path / "b.jpg", 5, 5)
