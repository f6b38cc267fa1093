"""The four degradations: forward models against references, operators against their algebra."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from envs.degradations import PHENOMENA, QUANTISATION, closed_form, degrade, project, quantise, sample
from envs.degradations.blur import spectrum
from envs.degradations.common import dct2, idct2
from envs.degradations.low_resolution import reduction
from envs.taxonomy import TAXONOMY, taxonomy

torch.set_num_threads(1)
FULL = taxonomy(camera=True, transmission_grid=4)
SIZES = st.tuples(st.integers(17, 65), st.integers(17, 65))
TYPES = [kind.name for kind in TAXONOMY.types]


def picture(photo, height, width):
    """float32 (1, 3, height, width) on the 8-bit grid."""
    x = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    return quantise(F.interpolate(x, size=(height, width), mode="area"))


@st.composite
def degradations(draw, world=TAXONOMY, type_name=None):
    """Values over the whole ranges of the keys, not only where the corpus draws them."""
    kind = world[type_name or draw(st.sampled_from(TYPES))]
    values = {key.name: draw(st.floats(key.low, key.high)) for key in kind.keys if not key.shape}
    if kind.name == "haze" and "transmission" not in values:
        values["transmission"] = [[draw(st.floats(0.05, 1.0)) for _ in range(4)] for _ in range(4)]
    if "camera" in {
        key.name for key in kind.keys
    }:  # a random matrix need not be a camera: draw what cameras are
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        values["camera"] = PHENOMENA["low_light"].sample(rng, 128, kind)["camera"]
    return world.degradation(kind.name, values)


# ---- forward models


@given(sigma=st.floats(0.3, 12.0), size=SIZES)
def test_blur_is_scipy_s_gaussian_filter_with_mirrored_borders(photo, sigma, size):
    x = picture(photo, *size)
    blur = TAXONOMY.degradation("blur", {"sigma": sigma})
    found = PHENOMENA["blur"].degrade(x, {"sigma": torch.tensor([blur["sigma"]])})
    wanted = [gaussian_filter(c.astype(np.float64), blur["sigma"], mode="reflect") for c in x[0].numpy()]
    np.testing.assert_allclose(found[0].numpy(), np.stack(wanted), atol=2e-6)


@given(scale=st.integers(2, 8), size=SIZES)
def test_low_resolution_is_torch_s_antialiased_bicubic_enlarged_by_replication(photo, scale, size):
    x = picture(photo, *size)
    small = F.interpolate(x, [max(1, round(n / scale)) for n in size], mode="bicubic", antialias=True).clamp(
        0, 1
    )
    rows, columns = (torch.arange(n) * m // n for n, m in zip(size, small.shape[-2:], strict=True))
    found = PHENOMENA["low_resolution"].degrade(x, {"scale": torch.tensor([float(scale)])})
    torch.testing.assert_close(found, small[..., rows[:, None], columns], atol=2e-6, rtol=0)
    if all(n % scale == 0 for n in size):
        torch.testing.assert_close(found, F.interpolate(small, size, mode="nearest"), atol=2e-6, rtol=0)


@given(light=st.floats(0.3, 1.0), t=st.floats(0.05, 1.0), size=SIZES)
def test_haze_is_the_scattering_equation(photo, light, t, size):
    x = picture(photo, *size)
    found = PHENOMENA["haze"].degrade(
        x, {"atmospheric_light": torch.tensor([light]), "transmission": torch.tensor([t])}
    )
    torch.testing.assert_close(found, t * x + light * (1 - t), atol=1e-6, rtol=0)


@given(gamma=st.floats(1.0, 5.0), gain=st.floats(0.005, 1.0))
def test_low_light_without_a_camera_is_gain_times_power(photo, gamma, gain):
    x = picture(photo, 33, 20)
    found = PHENOMENA["low_light"].degrade(x, {"gamma": torch.tensor([gamma]), "gain": torch.tensor([gain])})
    np.testing.assert_allclose(found.numpy(), gain * x.numpy() ** np.float32(gamma), atol=1e-6)


def test_a_camera_matrix_leaves_white_white():
    kind = FULL["low_light"]
    values = PHENOMENA["low_light"].sample(np.random.default_rng(0), 128, kind)
    dark = FULL.degradation("low_light", {**values, "gain": 0.5})
    y = degrade(torch.ones(1, 3, 4, 4), [dark])
    torch.testing.assert_close(y, torch.full_like(y, 0.5), atol=0.6 / 255, rtol=0)


@given(degradation=st.one_of(degradations(), degradations(FULL)), size=SIZES)
def test_every_value_at_any_size_gives_an_8_bit_picture_of_the_same_size(photo, degradation, size):
    x = picture(photo, *size)
    y = degrade(x, [degradation])
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, quantise(y), atol=0, rtol=0)
    restored = closed_form(y, [degradation])
    assert restored.isfinite().all()
    assert restored.min() >= 0
    assert restored.max() <= 1
    for level in (1e-4, 0.1, 10.0):
        assert project(torch.rand_like(x), y, [degradation], torch.tensor([level])).isfinite().all()


@pytest.mark.parametrize("world", [TAXONOMY, FULL], ids=["scalar", "full"])
def test_a_mixed_batch_is_its_rows_one_by_one(photo, world):
    rng = np.random.default_rng(3)
    rows = [sample(world, name, rng, 48) for name in [*TYPES, *reversed(TYPES), *TYPES]]
    x = picture(photo, 48, 40).repeat(len(rows), 1, 1, 1) * torch.linspace(0.5, 1, len(rows)).reshape(
        -1, 1, 1, 1
    )
    levels = torch.linspace(0.01, 1, len(rows))
    y = degrade(x, rows)
    together = project(x.flip(-1), y, rows, levels), closed_form(y, rows)
    for i, row in enumerate(rows):
        torch.testing.assert_close(degrade(x[i : i + 1], [row]), y[i : i + 1], atol=1e-6, rtol=0)
        alone = project(x[i : i + 1].flip(-1), y[i : i + 1], [row], levels[i : i + 1])
        torch.testing.assert_close(alone, together[0][i : i + 1], atol=2e-5, rtol=0)
        torch.testing.assert_close(
            closed_form(y[i : i + 1], [row]), together[1][i : i + 1], atol=2e-5, rtol=0
        )


def test_a_batch_and_its_degradations_have_one_length(photo):
    with pytest.raises(ValueError, match="1 images but 2 degradations"):
        degrade(picture(photo, 20, 20), [TAXONOMY.degradation("blur", {"sigma": 1})] * 2)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_drawn_values_are_on_the_grid_and_repeat_with_the_seed(type_name, size):
    for world in (TAXONOMY, FULL):
        draws = [
            [sample(world, type_name, np.random.default_rng(s), size) for s in range(20)] for _ in range(2)
        ]
        assert draws[0] == draws[1]
        assert len(set(draws[0])) > 2
        assert all(world.degradation(d.type, d.as_dict()["values"]) == d for d in draws[0])


# ---- operators


@given(size=SIZES)
def test_the_cosine_transform_is_orthonormal(photo, size):
    x = picture(photo, *size)
    torch.testing.assert_close(idct2(dct2(x)), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(dct2(x).square().sum(), x.square().sum(), atol=0, rtol=1e-5)


@given(n=st.integers(9, 130), scale=st.integers(2, 8))
def test_the_pseudo_inverse_of_low_resolution_is_one(n, scale):
    a, inverse = reduction(n, scale).reduce, reduction(n, scale).inverse
    torch.testing.assert_close(a @ inverse @ a, a, atol=1e-5, rtol=0)  # A A+ A = A
    torch.testing.assert_close(inverse @ a @ inverse, inverse, atol=1e-5, rtol=0)
    both = inverse @ a
    torch.testing.assert_close(both @ both, both, atol=1e-5, rtol=0)  # a projector ...
    torch.testing.assert_close(both, both.T, atol=1e-5, rtol=0)  # ... and an orthogonal one
    assert torch.linalg.cond(a) < 2


@given(sigma=st.floats(0.3, 12.0), size=SIZES)
def test_blur_is_its_own_adjoint(sigma, size):
    x = torch.rand(1, 3, *size, requires_grad=True)
    v = torch.rand(1, 3, *size)
    values = {"sigma": torch.tensor([sigma])}
    (adjoint,) = torch.autograd.grad(PHENOMENA["blur"].degrade(x, values), x, v)
    torch.testing.assert_close(adjoint, PHENOMENA["blur"].degrade(v, values), atol=1e-5, rtol=0)


@given(scale=st.integers(2, 8), size=SIZES)
def test_the_transposed_reduction_is_the_adjoint_of_torch_s_bicubic(scale, size):
    x = torch.rand(1, 1, *size, requires_grad=True)
    rows, columns = (reduction(n, scale) for n in size)
    v = torch.rand(1, 1, len(rows.pick), len(columns.pick))
    small = F.interpolate(x, v.shape[-2:], mode="bicubic", antialias=True)
    (adjoint,) = torch.autograd.grad(small, x, v)
    torch.testing.assert_close(adjoint, rows.reduce.T @ v @ columns.reduce, atol=1e-5, rtol=0)


def test_a_blur_never_amplifies_and_keeps_the_mean():
    gain = spectrum(torch.tensor([0.3, 1.0, 12.0]), 64, 50)
    assert gain.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(gain[:, 0, 0, 0], torch.ones(3), atol=1e-6, rtol=0)


# ---- data consistency


@given(type_name=st.sampled_from(["low_light", "low_resolution"]), data=st.data(), size=SIZES)
def test_an_exact_projection_satisfies_the_data_and_changes_nothing_the_second_time(
    photo, type_name, data, size
):
    degradation = data.draw(degradations(type_name=type_name))
    x = picture(photo, *size)
    y = degrade(x, [degradation])
    level = torch.tensor([1.0])
    once = project(x.flip(-1), y, [degradation], level)
    values = {key: torch.tensor([value]) for key, value in degradation.values}
    again = PHENOMENA[type_name].degrade(once, values)
    slack = 0.5 / 255 if type_name == "low_light" else 0.0  # low light: anything that quantises to y
    assert (again.clamp(0, 1) - y).abs().max() <= slack + 2e-4
    torch.testing.assert_close(project(once, y, [degradation], level), once, atol=2e-4, rtol=0)


@given(type_name=st.sampled_from(["haze", "blur"]), data=st.data(), size=SIZES)
def test_a_weighted_projection_meets_the_data_to_about_its_quantisation(photo, type_name, data, size):
    degradation = data.draw(degradations(type_name=type_name))
    x = picture(photo, *size)
    y = degrade(x, [degradation])
    restored = project(x.flip(-1), y, [degradation], torch.tensor([10.0]))
    again = degrade_unquantised(restored, degradation)
    assert (again - y).square().mean().sqrt() < 4 * QUANTISATION


@given(degradation=st.one_of(degradations(), degradations(FULL)))
def test_where_the_prior_is_sure_the_data_changes_little(photo, degradation):
    """The truth is a fixed point of every projection, up to the quantisation of the data."""
    x = picture(photo, 40, 33)
    y = degrade(x, [degradation])
    found = project(x, y, [degradation], torch.tensor([1e-3]))
    assert (found - x).square().mean().sqrt() < 3 * QUANTISATION


@given(light=st.floats(0.3, 1.0), t=st.floats(0.3, 1.0))
def test_haze_at_true_parameters_is_undone_but_for_quantisation(photo, light, t):
    haze = TAXONOMY.degradation("haze", {"atmospheric_light": light, "transmission": t})
    x = picture(photo, 48, 48)
    assert (closed_form(degrade(x, [haze]), [haze]) - x).abs().max() <= 0.5 / 255 / haze[
        "transmission"
    ] + 1e-5


@given(gamma=st.floats(1.0, 3.5), gain=st.floats(0.05, 1.0))
def test_the_truth_lies_in_the_interval_of_low_light(photo, gamma, gain):
    dark = TAXONOMY.degradation("low_light", {"gamma": gamma, "gain": gain})
    x = picture(photo, 48, 48)
    torch.testing.assert_close(
        project(x, degrade(x, [dark]), [dark], torch.tensor([0.1])), x, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("type_name", TYPES)
def test_the_closed_form_at_true_parameters_beats_the_degraded_picture(photo, type_name):
    x = picture(photo, 128, 128)
    for seed in range(5):
        truth = sample(TAXONOMY, type_name, np.random.default_rng(seed), 128)
        y = degrade(x, [truth])
        assert (closed_form(y, [truth]) - x).square().mean() < (y - x).square().mean()


def degrade_unquantised(x, degradation):
    values = {key: torch.tensor([value], dtype=torch.float32) for key, value in degradation.values}
    return PHENOMENA[degradation.type].degrade(x, values)
