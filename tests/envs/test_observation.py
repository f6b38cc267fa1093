"""What the policy sees: three pictures of the same size and one question."""

import numpy as np
import pytest

from envs.observation import QUESTION, VIEWS, chat, log_fft, logarithm, sobel, views


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (33, 47), (1, 5)])
def test_views_are_8_bit_pictures_of_the_image_s_size(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    seen = views(image)
    assert len(seen) == len(VIEWS) == 4
    assert all(view.shape == image.shape and view.dtype == np.uint8 for view in seen)
    assert np.array_equal(seen[0], image)


def test_views_come_as_asked(photo):
    edge, image = views(photo, ("edge", "image"))
    assert np.array_equal(edge, sobel(photo))
    assert np.array_equal(image, photo)


def test_a_flat_picture_has_no_edges_and_one_frequency():
    flat = np.full((32, 32, 3), 100, np.uint8)
    assert sobel(flat).max() == 0
    spectrum = log_fft(flat)[..., 0].astype(int)
    centre = spectrum[16, 16]
    spectrum[16, 16] = 0
    assert centre > spectrum.max() + 50


def test_blur_darkens_the_high_frequencies_and_the_edges(photo):
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(photo, (2, 2, 0))
    corner = np.s_[:20, :20]
    assert log_fft(soft)[corner].mean() < log_fft(photo)[corner].mean() - 10
    assert sobel(soft).mean() < sobel(photo).mean()


def test_the_logarithm_keeps_the_order_of_levels_and_spreads_the_darkest(photo):
    levels = logarithm(np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, 2))[:, 0, 0].astype(int)
    assert (levels[0], levels[-1]) == (0, 255)
    assert (np.diff(levels) >= 0).all()
    assert levels[25] - levels[1] > 100
    assert logarithm(photo).shape == photo.shape


def test_the_views_of_one_image_are_always_the_same(photo):
    assert all(np.array_equal(a, b) for a, b in zip(views(photo), views(photo.copy()), strict=True))


def test_the_conversation_shows_the_views_and_then_asks():
    (turn,) = chat(3)
    assert [part["type"] for part in turn["content"]] == ["image"] * 3 + ["text"]
    assert turn["content"][-1]["text"] == QUESTION
