"""Files are read as a person sees them, whatever their format."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from envs.pictures import UNREADABLE, read_picture

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))


def saved(tmp_path, name, picture, **options):
    file = tmp_path / name
    picture.save(file, **options)
    return file


def test_sixteen_bits_of_gray_are_not_white(tmp_path):
    file = tmp_path / "deep.png"
    cv2.imwrite(str(file), RAMP.astype(np.uint16) * 257)
    assert (read_picture(file) == RAMP[..., None]).all()


@pytest.mark.parametrize(("top", "name"), [(1.0, "unit"), (255.0, "byte"), (65535.0, "word")])
def test_floats_are_intensities_of_the_range_they_fill(tmp_path, top, name):
    file = saved(tmp_path, f"{name}.tif", Image.fromarray((RAMP / 252 * top).astype(np.float32)))
    assert np.abs(read_picture(file)[..., 0].astype(int) - np.rint(RAMP / 252.0 * 255)).max() <= 1


def test_sixteen_bits_of_colour_are_read(tmp_path):
    file, picture = tmp_path / "deep.tif", np.stack([RAMP, RAMP[:, ::-1], RAMP], -1)
    cv2.imwrite(str(file), picture[..., ::-1].astype(np.uint16) * 257)
    assert (read_picture(file) == picture).all()


def test_what_is_transparent_is_white(tmp_path):
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:20, :, :] = (200, 10, 10, 255)
    picture[20:, :, :3] = 77  # hidden
    pixels = read_picture(saved(tmp_path, "clear.png", Image.fromarray(picture)))
    assert (pixels[:20] == (200, 10, 10)).all()
    assert (pixels[20:] == 255).all()


def test_a_profile_is_applied(tmp_path):
    picture = Image.fromarray(np.full((32, 32, 3), (64, 128, 192), np.uint8))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")  # red is blue
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    plain = read_picture(saved(tmp_path, "plain.png", picture))
    assert (read_picture(saved(tmp_path, "srgb.png", picture, icc_profile=srgb)) == plain).all()
    assert (read_picture(saved(tmp_path, "odd.png", picture, icc_profile=lab)) == plain).all()  # of another space
    other = read_picture(saved(tmp_path, "other.png", picture, icc_profile=swapped))
    assert np.abs(other[0, 0].astype(int) - (192, 128, 64)).max() <= 1


def test_phones_formats_are_read(tmp_path):
    picture = Image.fromarray(np.stack([np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))] * 3, -1))
    from pillow_heif import register_heif_opener

    register_heif_opener()
    for name in ("a.heic", "a.avif", "a.jfif", "a.gif", "a.tif"):
        options = {"format": "JPEG"} if name.endswith("jfif") else {}
        read = read_picture(saved(tmp_path, name, picture, **options))
        assert read.shape == (64, 64, 3)
        assert np.abs(read.astype(int) - np.asarray(picture)).mean() < 6, name


def test_a_picture_that_lay_on_its_side_stands(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path, "lying.jpg", Image.fromarray(np.zeros((20, 40, 3), np.uint8)), exif=exif)
    assert read_picture(file).shape == (40, 20, 3)


@pytest.mark.parametrize("data", [b"", b"no picture", b"II*\x00broken"])
def test_what_is_no_picture_is_unreadable(data):
    with pytest.raises(UNREADABLE):
        read_picture(data)


def test_formats_can_be_limited():
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "GIF")
    with pytest.raises(UNREADABLE):
        read_picture(buffer.getvalue(), formats=("PNG",))


def test_floats_that_are_no_numbers_are_told(tmp_path):
    file = saved(tmp_path, "nan.tif", Image.fromarray(np.full((20, 20), np.nan, np.float32)))
    with pytest.raises(ValueError, match="finite"):
        read_picture(file)


def test_packaged_photographs_are_read_as_they_are_stored():
    """The shipped weights were measured so; anything else about them follows the profile."""
    from envs.corpus.datasets import read_photo
    from envs.corpus.photos import find_photos

    (rocket,) = [photo.path for photo in find_photos("bundled") if photo.photo_id == "rocket"]
    with Image.open(rocket) as image:
        assert (read_photo(rocket) == np.asarray(image.convert("RGB"))).all()
        assert (read_picture(rocket) != np.asarray(image.convert("RGB"))).any()
