"""What a camera wrote beside the pixels goes with what is made of them, and is true of it."""

import asyncio
import io
import json
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from replica import Body, Replica
from skimage import data

import duvlm
from envs.corpus.generate import encode
from envs.pictures import read_picture, tags_of
from service.pictures import Photo, decoded

BLUR = json.dumps({"type": "blur", "values": {"sigma": 2.0}})
ORIENTATION, THUMBNAIL = 0x0112, 0x0103
NOTE = b"Maker\0\1\2\3 its own words"


def camera_tags(orientation: int = 6) -> bytes:
    """Tags as a camera writes them, with a thumbnail's behind them."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make], tags[ExifTags.Base.Copyright], tags[ORIENTATION] = "Maker", "somebody", orientation
    tags._ifds[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2026:11:28 10:11:12",
        ExifTags.Base.ExifImageWidth: 80,
        ExifTags.Base.ExifImageHeight: 48,
        ExifTags.Base.ColorSpace: 65535,
        ExifTags.Base.MakerNote: NOTE,
    }
    tags._ifds[ExifTags.IFD.GPSInfo] = {1: "N", 2: (47.0, 3.0, 2.5)}
    written = bytearray(tags.tobytes()[6:])
    (count,) = struct.unpack_from(">H", written, 8)
    struct.pack_into(">I", written, 10 + 12 * count, len(written))
    return bytes(written) + struct.pack(">HHHIHHI", 1, THUMBNAIL, 3, 1, 6, 0, 0)


def photograph(kind: str = "JPEG", tags: bytes | None = None, gray: bool = False, **options) -> bytes:
    """A photograph of 80 x 48 px that was taken with the camera on its side."""
    pixels = np.ascontiguousarray(data.astronaut()[100:148, 100:180])
    image = Image.fromarray(pixels[..., 1] if gray else pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=b"Exif\0\0" + (camera_tags() if tags is None else tags), **options)
    return buffer.getvalue()


def check(made: bytes) -> None:
    """The tags of a picture made of `photograph` are those of the camera, and fit it."""
    with Image.open(io.BytesIO(made)) as image:
        tags = image.getexif()
        assert image.size == (48, 80)
    detail = tags.get_ifd(ExifTags.IFD.Exif)
    assert tags[ORIENTATION] == 1
    assert (tags[ExifTags.Base.Make], tags[ExifTags.Base.Copyright]) == ("Maker", "somebody")
    assert detail[ExifTags.Base.DateTimeOriginal] == "2026:11:28 10:11:12"
    assert detail[ExifTags.Base.MakerNote] == NOTE
    assert (detail[ExifTags.Base.ExifImageWidth], detail[ExifTags.Base.ExifImageHeight]) == (48, 80)
    assert dict(tags.get_ifd(ExifTags.IFD.GPSInfo)) == {1: "N", 2: (47.0, 3.0, 2.5)}
    assert not tags.get_ifd(ExifTags.IFD.IFD1), "the thumbnail shows what the picture was"


@pytest.mark.parametrize("job", ["restore", "degrade"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_commands_give_them_back(tmp_path, job, kind):
    (tmp_path / "photo").write_bytes(photograph(kind))
    settings = ["reward.prior=gaussian"] if job == "restore" else []
    command = ["run", job, f"image={tmp_path / 'photo'}", f"degradation={BLUR}", f"out={tmp_path / 'out'}", *settings]
    assert duvlm.main(command) == 0
    check((tmp_path / "out" / "photo.png").read_bytes())


def test_the_service_gives_them_back():
    async def requests():
        replica, sent = Replica(), photograph()
        for reply in (await replica.restore(Body(sent)), await replica.degrade(Body(sent), BLUR)):
            check(reply.body)

    asyncio.run(requests())


def test_what_describes_the_pixels_of_a_file_stays_with_it():
    with Image.open(io.BytesIO(photograph("TIFF"))) as image:
        taken = Image.Exif()
        taken.load(tags_of(image))
    assert set(taken) == {ExifTags.Base.Make, ExifTags.Base.Copyright, ORIENTATION, *map(int, (0x8769, 0x8825))}


def test_a_profile_that_was_converted_leaves_srgb():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for options, space in (({}, 65535), ({"icc_profile": profile}, 1)):
        with Image.open(io.BytesIO(photograph(**options))) as image:
            tags = Image.Exif()
            tags.load(tags_of(image))
        assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] == space


def test_sixteen_bits_keep_them_too():
    image, buffer = Image.fromarray(np.full((48, 80), 30000, np.uint16)), io.BytesIO()
    image.save(buffer, "TIFF", exif=b"Exif\0\0" + camera_tags())
    check(decoded(buffer.getvalue()).png(np.zeros((80, 48, 3), np.uint8)))


def test_without_tags_the_file_is_as_ever(photo):
    assert Photo(photo).png(photo) == encode(photo)


@given(st.data())
def test_damaged_tags_are_left_out_and_change_no_pixel(data):
    tags = bytearray(camera_tags(orientation=1))
    for _ in range(data.draw(st.integers(1, 6))):
        tags[data.draw(st.integers(0, len(tags) - 1))] = data.draw(st.integers(0, 255))
    sent = photograph("JPEG", bytes(tags[: data.draw(st.integers(0, len(tags)))]))
    given = decoded(sent)
    assert given.picture.size == 48 * 80 * 3
    assert np.array_equal(read_picture(given.png(given.picture)), given.picture)


def test_a_gray_picture_stays_gray_in_the_service_as_in_the_command(photo, tmp_path):
    """The real restoration on the real pool is in test_service.py; here both ask the same function."""
    from service.pixels import gray_as

    gray = np.repeat(photo[..., :1], 3, axis=-1)
    coloured = cv2.GaussianBlur(photo, (0, 0), 2.0)
    assert (gray_as(gray, coloured) == gray_as(gray, coloured)[..., :1]).all()
    assert gray_as(photo, coloured) is coloured


def test_a_photograph_is_decoded_once(tmp_path, monkeypatch):
    opened, whole = [], Image.open

    def counted(*arguments, **options):
        opened.append(arguments)
        return whole(*arguments, **options)

    (tmp_path / "photo.jpg").write_bytes(photograph())
    monkeypatch.setattr(Image, "open", counted)
    command = ["run", "restore", f"image={tmp_path / 'photo.jpg'}", f"degradation={BLUR}", f"out={tmp_path / 'out'}"]
    assert duvlm.main([*command, "reward.prior=gaussian"]) == 0
    assert len(opened) == 1
