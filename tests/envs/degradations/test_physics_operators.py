"""Forward models against plain NumPy and SciPy, operators against their algebra, over the whole range of every key."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from envs.degradations import PHENOMENA, blur, closed_form, degrade, project, quantise
from envs.degradations.low_resolution import reduction
from envs.taxonomy import TAXONOMY, taxonomy

torch.set_num_threads(1)
CAMERA = taxonomy(camera=True)
SIZES = st.tuples(st.integers(17, 48), st.integers(17, 48))


def whole(name):
    """Any number of a key's range."""
    key = CAMERA.keys[name]
    return st.floats(key.low, key.high)


def pictures(seed, height, width, count=1):
    """(count, 3, height, width) on the 8-bit grid: rough, with black, white and flat parts."""
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.normal(size=(count, 3, height, width)), (0, 0, 2, 2)) * 3 + 0.5
    return quantise(torch.tensor(x, dtype=torch.float32))


def camera_matrix(seed):
    return PHENOMENA["low_light"].sample(np.random.default_rng(seed), 64, CAMERA["low_light"])["camera"]


def column(number):
    return torch.tensor([number], dtype=torch.float32)


# ---- forward models, computed again in float64


@given(sigma=whole("sigma"), size=SIZES, seed=st.integers(0, 9))
def test_blur_is_scipy_s_over_the_whole_range_though_the_kernel_outgrows_the_picture(sigma, size, seed):
    x = pictures(seed, *size)
    found = PHENOMENA["blur"].degrade(x, {"sigma": column(sigma)})[0]
    exact = float(np.float32(sigma))
    wanted = [gaussian_filter(c, exact, mode="reflect", truncate=4.0) for c in x[0].double().numpy()]
    np.testing.assert_allclose(found, np.stack(wanted), atol=3e-6)


@given(sigma=whole("sigma"), size=SIZES)
def test_blur_truncated_at_four_sigma_differs_from_the_untruncated_by_under_a_tenth_of_a_grey_level(sigma, size):
    x = pictures(0, *size)
    found = PHENOMENA["blur"].degrade(x, {"sigma": column(sigma)})[0]
    wanted = [gaussian_filter(c, float(np.float32(sigma)), mode="reflect", truncate=9.0) for c in x[0].double().numpy()]
    assert np.abs(found.numpy() - np.stack(wanted)).max() < 0.1 / 255


@given(sigma=whole("sigma"), size=SIZES)
def test_blur_is_diagonal_in_the_cosine_transform_of_scipy(sigma, size):
    x = pictures(1, *size)[0].double().numpy()
    gains = blur.spectrum(column(sigma), *size)[0, 0].double().numpy()
    wanted = idctn(gains * dctn(x, axes=(1, 2), norm="ortho"), axes=(1, 2), norm="ortho")
    blurred = PHENOMENA["blur"].degrade(pictures(1, *size), {"sigma": column(sigma)})
    np.testing.assert_allclose(blurred[0], wanted, atol=3e-6)


@given(light=whole("atmospheric_light"), t=whole("transmission"), size=SIZES)
def test_haze_is_the_scattering_equation_in_numpy(light, t, size):
    x = pictures(2, *size)
    found = PHENOMENA["haze"].degrade(x, {"atmospheric_light": column(light), "transmission": column(t)})
    np.testing.assert_allclose(found, t * x.double().numpy() + light * (1 - t), atol=1e-6)


@given(gamma=whole("gamma"), gain=whole("gain"), size=SIZES, seed=st.integers(0, 99))
def test_low_light_is_gamma_then_camera_then_gain_in_numpy(gamma, gain, size, seed):
    x = pictures(3, *size)
    rgb_to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    camera = np.array(camera_matrix(seed))
    matrix = camera @ rgb_to_xyz
    matrix /= matrix.sum(1, keepdims=True)
    values = {"gamma": column(gamma), "gain": column(gain)}
    linear = x[0].double().numpy() ** float(np.float32(gamma))
    np.testing.assert_allclose(PHENOMENA["low_light"].degrade(x, values)[0], gain * linear, atol=2e-6)
    found = PHENOMENA["low_light"].degrade(x, {**values, "camera": column(camera.tolist())})[0]
    np.testing.assert_allclose(found, gain * np.einsum("ij,jhw->ihw", matrix, linear), atol=2e-6)


@given(scale=st.integers(2, 8), size=SIZES)
def test_low_resolution_is_a_weighted_mean_of_the_pixels_under_the_bicubic_kernel_in_numpy(scale, size):
    """Keys' cubic (a = -1/2) stretched by the ratio of the sizes, weights normalised: written out, no library."""
    for n in size:
        m = max(1, round(n / scale))
        stretch = n / m
        centres = (np.arange(m)[:, None] + 0.5) * stretch
        d = np.abs((np.arange(n) + 0.5 - centres) / stretch)
        tail = np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0)
        weights = np.where(d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, tail)
        np.testing.assert_allclose(
            reduction(n, scale).reduce, weights / weights.sum(1, keepdims=True), atol=2e-6
        )


@given(world=st.sampled_from([TAXONOMY, CAMERA]), data=st.data(), size=SIZES)
def test_what_is_seen_is_rounded_to_the_nearest_of_256_levels(world, data, size):
    kind = world[data.draw(st.sampled_from([t.name for t in world.types]))]
    values = {k.name: data.draw(st.floats(k.low, k.high)) for k in kind.keys if not k.shape}
    if len(values) < len(kind.keys):
        values["camera"] = camera_matrix(7)
    degradation = world.degradation(kind.name, values)
    x = pictures(4, *size)
    exact = PHENOMENA[kind.name].degrade(x, {key: column(value) for key, value in degradation.values})
    levels = degrade(x, [degradation]) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert (levels - exact.clamp(0, 1) * 255).abs().max() <= 0.5 + 1e-4


# ---- algebra


@given(sigma=whole("sigma"), scale=st.integers(2, 8), size=SIZES)
def test_linear_operators_satisfy_the_identity_of_the_adjoint(sigma, scale, size):
    """<A x, v> = <x, A^T v> with A^T from autograd, for blur, haze without its light, and the reduction."""
    x, v = pictures(5, *size).requires_grad_(), pictures(6, *size)
    cells = [max(1, round(n / scale)) for n in size]
    operators = {
        "blur": lambda x: PHENOMENA["blur"].degrade(x, {"sigma": column(sigma)}),
        "haze": lambda x: PHENOMENA["haze"].degrade(x, {"atmospheric_light": column(0.0), "transmission": column(0.3)}),
        "reduction": lambda x: F.interpolate(x, cells, mode="bicubic", antialias=True),
    }
    for name, operator in operators.items():
        y = operator(x)
        w = v[..., : y.shape[-2], : y.shape[-1]]
        (adjoint,) = torch.autograd.grad(y, x, w)
        left, right = (y.detach().double() * w).sum(), (x.detach().double() * adjoint).sum()
        assert abs(left - right) <= 1e-5 * (y.detach().double().norm() * w.double().norm()), name


@given(sigma=st.floats(0.3, 1.5), size=SIZES)
def test_where_a_blur_is_invertible_its_pseudo_inverse_is(sigma, size):
    """A A+ A = A in float64, A+ = 1 / gain where the gain is not lost in rounding."""
    gain = blur.spectrum(column(sigma), *size).double()
    inverse = torch.where(gain > 1e-6, 1 / gain, torch.zeros_like(gain))
    torch.testing.assert_close(gain * inverse * gain, gain, atol=1e-6, rtol=0)
    torch.testing.assert_close((inverse * gain) ** 2, inverse * gain, atol=1e-6, rtol=0)


@given(scale=st.integers(2, 8), size=SIZES)
def test_low_resolution_projects_once_and_for_all(scale, size):
    """A+ A is idempotent: what the closed form keeps of a picture it keeps of what it kept."""
    small = TAXONOMY.degradation("low_resolution", {"scale": scale})
    level = torch.tensor([1.0])
    y = degrade(0.25 + pictures(7, *size) / 2, [small])
    once = project(pictures(8, *size), y, [small], level)
    torch.testing.assert_close(project(once, y, [small], level), once, atol=1e-4, rtol=0)


# ---- data consistency and round trips


@settings(max_examples=40)
@given(data=st.data(), size=SIZES)
def test_whatever_the_estimate_its_projection_degrades_to_the_data(data, size):
    """rms, in grey levels: low light and low resolution nearly exact, blur within its noise, over the whole ranges."""
    kind = TAXONOMY[data.draw(st.sampled_from(["low_light", "low_resolution", "blur"]))]
    truth = TAXONOMY.degradation(kind.name, {k.name: data.draw(whole(k.name)) for k in kind.keys})
    y = degrade(pictures(9, *size), [truth])
    found = project(pictures(10, *size), y, [truth], torch.tensor([1e3]))
    values = {key: column(value) for key, value in truth.values}
    error = (PHENOMENA[kind.name].degrade(found, values) - y) * 255
    if kind.name == "low_light":
        assert error.abs().max() <= 0.5 + 0.01
    else:
        assert error.square().mean().sqrt() <= {"low_resolution": 0.05, "blur": 1.5}[kind.name]


@given(sigma=st.floats(0.3, 0.6), light=whole("atmospheric_light"), t=whole("transmission"), size=SIZES)
def test_what_loses_nothing_is_undone_to_its_quantisation(sigma, light, t, size):
    x = 0.1 + 0.8 * pictures(11, *size)
    haze = TAXONOMY.degradation("haze", {"atmospheric_light": light, "transmission": t})
    assert (closed_form(degrade(x, [haze]), [haze]) - x).abs().max() <= 0.5 / 255 / haze["transmission"] + 1e-5
    soft = TAXONOMY.degradation("blur", {"sigma": sigma})
    lowest = float(blur.spectrum(column(soft["sigma"]), *size).min())
    restored = closed_form(degrade(x, [soft]), [soft])
    assert (restored - x).square().mean().sqrt() <= 0.5 / 255 / lowest
