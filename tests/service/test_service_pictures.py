"""What the service takes as a picture, and what it says to everything else."""

import asyncio
import io
import json
import socket

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from configs import UserError, load
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Group
from service import pictures
from service.engine import Service
from service.pixels import given_degradation
from service.serve import _check_free
from service.web.app import describe


def encoded(picture: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def test_a_picture_comes_through_unchanged(photo):
    found = pictures.read(encoded(photo, "PNG"))
    assert np.array_equal(found.picture, photo)
    assert found.size == (128, 128)


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_every_format_is_read(photo, kind):
    found = pictures.read(encoded(photo, kind)).picture
    assert found.shape == photo.shape
    assert np.abs(found.astype(float) - photo).mean() < 8


def test_a_large_picture_keeps_its_size(photo):
    large = cv2.resize(photo, (2000, 1000))
    for kind in ("JPEG", "PNG"):
        found = pictures.read(encoded(large, kind))
        assert found.picture.shape == (1000, 2000, 3)
        assert found.size == (2000, 1000)


@pytest.mark.parametrize(("size", "taken"), [((1600, 100), True), ((2000, 40), False), ((33, 600), False)])
def test_a_strip_keeps_its_proportions_or_is_refused(size, taken):
    data = encoded(np.zeros((size[1], size[0], 3), np.uint8), "PNG")
    if taken:
        assert pictures.read(data).picture.shape == (*size[::-1], 3)
    else:
        with pytest.raises(pictures.PictureError, match=f"at most 16 to 1, got {size[0]} x {size[1]}"):
            pictures.read(data)


def test_a_picture_turned_by_its_camera_stands_upright(photo):
    wide = np.ascontiguousarray(photo[:64])
    image, buffer = Image.fromarray(wide), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    found = pictures.read(buffer.getvalue())
    assert found.picture.shape == (128, 64, 3)
    assert found.size == (64, 128)


@given(st.binary(max_size=2000))
def test_bytes_that_are_no_picture_are_refused_with_a_reason(data):
    with pytest.raises(pictures.PictureError, match="expected a picture"):
        pictures.read(data)


@given(st.data())
def test_a_damaged_picture_is_read_or_refused_but_never_crashes(data):
    whole = bytearray(encoded(np.full((40, 40, 3), 99, np.uint8), data.draw(st.sampled_from(pictures.FORMATS))))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = pictures.read(bytes(whole[: data.draw(st.integers(1, len(whole)))])).picture
    except pictures.PictureError:
        return
    assert found.dtype == np.uint8
    assert found.ndim == 3


def test_a_tiny_picture_is_refused():
    with pytest.raises(pictures.PictureError, match="at least 32 px"):
        pictures.read(encoded(np.zeros((31, 200, 3), np.uint8), "PNG"))


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    with pytest.raises(pictures.PictureError, match="megapixels"):
        pictures.read(encoded(np.zeros((9000, 5000), np.uint8), "PNG"))


def test_the_same_pixels_are_the_same_sample_and_others_are_not(photo):
    assert pictures.as_sample(photo).sample_id == pictures.as_sample(photo.copy()).sample_id
    other = photo.copy()
    other[0, 0, 0] ^= 1
    assert pictures.as_sample(photo).sample_id != pictures.as_sample(other).sample_id


def test_sliders_know_every_key_of_the_taxonomy():
    described = describe(TAXONOMY)
    assert {key["name"] for kind in described for key in kind["keys"]} == set(TAXONOMY.keys)
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("answer", [{}, {"type": "blur"}, {"type": "blur", "values": 3}, [], 7, {"values": {}}])
def test_a_degradation_of_another_form_is_a_user_error(answer):
    with pytest.raises(UserError, match="degradation: expected JSON such as"):
        given_degradation(answer, TAXONOMY, 1.0)


@pytest.mark.parametrize("value", [None, "two", [2], {"a": 1}, True, 1e400])
def test_a_value_that_is_no_number_is_told_in_a_sentence(value):
    with pytest.raises(UserError, match="degradation: ") as error:
        given_degradation({"type": "blur", "values": {"sigma": value}}, TAXONOMY, 1.0)
    assert "'NoneType'" not in str(error.value)
    assert "object" not in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_the_users_error(host):
    try:
        taken = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        pytest.skip(f"no {host} on this machine")
    port = taken.getsockname()[1]
    with taken, pytest.raises(UserError, match="in use"):
        _check_free(host, port)
    _check_free(host, port)


def test_the_policy_is_asked_as_the_settings_say(photo):
    class Rollouts:
        async def sample(self, prompts, **options):
            self.options = options
            yield Group(prompts[0], (Completion("[T-blur]", (), ()),), 0, 0.0)

    service = Service(load("serve", ["rollout.grammar=true"]))
    service._rollouts = Rollouts()
    asyncio.run(service.read(photo))
    assert service._rollouts.options == {"n": 1, "temperature": 0.0, "grammar": True}
