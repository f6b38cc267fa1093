"""A photograph of any size is restored at its own resolution, in its own pixels."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

import duvlm
from configs import UserError
from envs.corpus.generate import degrade
from envs.pictures import read_picture
from envs.taxonomy import TAXONOMY, Degradation
from reward_actors.scoring.scorer import psnr
from service.pixels import given_degradation, policy_view, to_photo


def restore(image, out, degradation, *settings) -> int:
    text = degradation if isinstance(degradation, str) else json.dumps(degradation)
    settings = ["reward.prior=gaussian", *settings]
    return duvlm.main(["run", "restore", f"image={image}", f"degradation={text}", f"out={out}", *settings])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("blur", {"sigma": 2.0}),
        ("low_resolution", {"scale": 3}),
        ("haze", {"atmospheric_light": 0.8, "transmission": 0.3}),
        ("low_light", {"gamma": 2.5, "gain": 0.08}),
    ],
)
def test_a_photo_of_odd_size_comes_back_better_and_of_its_size(tmp_path, kind, values):
    clean = np.ascontiguousarray(data.astronaut()[:201, :333])
    degraded = degrade(clean, TAXONOMY.degradation(kind, values))
    Image.fromarray(degraded).save(tmp_path / "photo.png")
    assert restore(tmp_path / "photo.png", tmp_path / "out", {"type": kind, "values": values}) == 0
    restored = read_picture(tmp_path / "out" / "photo.png")
    found = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert restored.shape == clean.shape
    assert psnr(restored, clean) > psnr(degraded, clean) + 0.3
    assert found["degradation"] == {"type": kind, "values": values}
    assert found["size"] == [333, 201]


def test_pixels_are_those_of_the_photo():
    truth = {"type": "blur", "values": {"sigma": 30.0}}  # beyond the taxonomy, but not for a large photo
    assert given_degradation(truth, TAXONOMY, ratio=8)["sigma"] == 30.0
    with pytest.raises(UserError, match="sigma"):
        given_degradation(truth, TAXONOMY, ratio=1)
    answered = TAXONOMY.degradation("blur", {"sigma": 2.0})
    assert to_photo(answered, 4.0) == Degradation("blur", (("sigma", 8.0),))
    assert to_photo(TAXONOMY.degradation("low_resolution", {"scale": 2}), 1.6)["scale"] == 3
    assert to_photo(TAXONOMY.degradation("low_light", {"gamma": 2, "gain": 0.1}), 4.0)["gamma"] == 2


@pytest.mark.parametrize("shape", [(300, 500, 3), (40, 60, 3), (128, 128, 3)])
def test_the_policy_sees_a_square_of_its_size(shape):
    view, ratio = policy_view(np.zeros(shape, np.uint8), 128)
    assert view.shape == (128, 128, 3)
    assert ratio == min(shape[:2]) / 128


@pytest.mark.parametrize(
    ("degradation", "words"),
    [
        ({"type": "fog", "values": {}}, "unknown degradation type"),
        ({"type": "blur", "values": {"gamma": 2}}, "sigma"),
        ({"type": "blur", "values": {"sigma": "two"}}, "number"),
        ({"type": "blur", "values": {"sigma": 500}}, "sigma"),
        ({"type": "blur", "values": [["sigma"]]}, "degradation"),
        ("{blur", "JSON"),
    ],
)
def test_a_degradation_that_does_not_exist_is_refused(tmp_path, capsys, degradation, words):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    assert restore(tmp_path / "photo.png", tmp_path / "out", degradation) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_photo_is_not_overwritten_by_what_was_made_of_it(tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photo)
    (tmp_path / "link").symlink_to(tmp_path)
    before = photo.read_bytes()
    for out in (tmp_path, tmp_path / "link"):
        assert restore(photo, out, {"type": "blur", "values": {"sigma": 2.0}}) == 2
        assert "the photograph itself" in capsys.readouterr().err
    assert photo.read_bytes() == before
    assert not (tmp_path / "photo.json").exists()


@pytest.mark.parametrize("content", [None, b"", b"GIF89a nothing", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_image_is_refused(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "photo.png").write_bytes(content)
    assert restore(tmp_path / "photo.png", tmp_path / "out", {"type": "blur", "values": {"sigma": 2}}) == 2
    assert "photo.png" in capsys.readouterr().err


def test_a_folder_is_restored_and_what_cannot_be_read_is_told(tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    picture = Image.fromarray(np.ascontiguousarray(data.astronaut()[:128, 100:228]))
    for name in ("a.png", "a.tif", "b.jpg"):
        picture.save(folder / name)
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("left alone")
    with pytest.raises(SystemExit) as status:
        restore(folder, out, {"type": "blur", "values": {"sigma": 2.0}})
    assert status.value.code == 1
    assert "c.png" in capsys.readouterr().err
    expected = {f"{stem}.{suffix}" for stem in ("a.png", "a.tif", "b") for suffix in ("png", "json")}
    assert {file.name for file in out.iterdir()} == expected


@pytest.mark.parametrize("restorer", ["twice", "fast"])
def test_the_name_of_a_file_changes_nothing(tmp_path, restorer):
    """The noise of a restorer that draws any is that of the picture."""
    picture = np.ascontiguousarray(data.astronaut()[:96, 100:228])
    for name in ("first", "second"):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        settings, blur = [f"reward.restorer={restorer}"], {"type": "blur", "values": {"sigma": 2.0}}
        assert restore(tmp_path / f"{name}.png", tmp_path / "out", blur, *settings) == 0
    assert (tmp_path / "out" / "first.png").read_bytes() == (tmp_path / "out" / "second.png").read_bytes()


def test_a_degradation_that_does_not_fit_is_undone_with_a_warning(tmp_path, capsys):
    Image.fromarray(np.ascontiguousarray(data.astronaut()[:96, 100:228])).save(tmp_path / "sharp.png")
    assert restore(tmp_path / "sharp.png", tmp_path / "out", {"type": "low_resolution", "values": {"scale": 2}}) == 0
    assert "low_resolution does not fit this photograph" in capsys.readouterr().err
    assert restore(tmp_path / "sharp.png", tmp_path / "out", {"type": "blur", "values": {"sigma": 2.0}}) == 0
    assert "does not fit" not in capsys.readouterr().err


def test_a_gray_photograph_stays_gray(tmp_path):
    gray = data.camera()[100:228, 100:300]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    settings = ["reward.prior=shipped"]
    assert restore(tmp_path / "gray.png", tmp_path / "out", {"type": "blur", "values": {"sigma": 2.0}}, *settings) == 0
    restored = read_picture(tmp_path / "out" / "gray.png")
    assert (restored == restored[..., :1]).all()


def test_a_photograph_is_degraded_by_given_parameters_and_restored_by_the_same(tmp_path):
    clean = np.ascontiguousarray(data.astronaut()[:200, 100:400])
    Image.fromarray(clean).save(tmp_path / "photo.png")
    wanted = {"type": "blur", "values": {"sigma": 2.0}}
    command = ["run", "degrade", f"image={tmp_path / 'photo.png'}", f"degradation={json.dumps(wanted)}"]
    assert duvlm.main([*command, f"out={tmp_path / 'degraded'}"]) == 0
    assert json.loads((tmp_path / "degraded" / "photo.json").read_text())["degradation"] == wanted
    degraded = read_picture(tmp_path / "degraded" / "photo.png")
    assert (degraded == degrade(clean, TAXONOMY.degradation("blur", {"sigma": 2.0}))).all()
    assert restore(tmp_path / "degraded" / "photo.png", tmp_path / "restored", wanted) == 0
    assert psnr(read_picture(tmp_path / "restored" / "photo.png"), clean) > psnr(degraded, clean) + 0.5


def test_degrading_needs_to_know_how(tmp_path, capsys):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    assert duvlm.main(["run", "degrade", f"image={tmp_path / 'photo.png'}", f"out={tmp_path / 'out'}"]) == 2
    assert "degradation: expected what is to be done" in capsys.readouterr().err


def test_the_words_that_a_policy_begins_its_answer_with_are_printed(tmp_path, capsys):
    clean = np.ascontiguousarray(data.astronaut()[:256, :256])
    Image.fromarray(degrade(clean, TAXONOMY.degradation("blur", {"sigma": 3.0}))).save(tmp_path / "photo.png")
    assert restore(tmp_path / "photo.png", tmp_path / "out", "", "world=paper") == 0
    words = json.loads((tmp_path / "out" / "photo.json").read_text())["text"].partition("[")[0].strip()
    assert words
    assert f'photo.png: {words} {{"type"' in capsys.readouterr().out
