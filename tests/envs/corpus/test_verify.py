"""What no camera would have seen, or nobody could read, is drawn again; what remains is named."""

import numpy as np
import pytest
from PIL import Image

from configs.schema import Config, World
from envs.corpus import build, generate, verify
from envs.corpus.generate import ATTEMPTS, decode, degrade, encode, generate_sample, reproduces
from envs.corpus.reader import read_card
from envs.world import world_taxonomy

TAXONOMY = world_taxonomy(World())
BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})
HAZE = TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": 0.4})
DARK = TAXONOMY.degradation("low_light", {"gamma": 3.5, "gain": 0.05})


@pytest.fixture(scope="module")
def recipe():
    return build.plan(Config(count=400, size=48))[0]


@pytest.mark.parametrize("degradation", [BLUR, HAZE, DARK])
def test_a_photograph_degraded_as_it_should_be_is_believable(photo, degradation):
    assert verify.faults(photo, degrade(photo, degradation), degradation) == ()


def test_each_fault_is_recognised(photo):
    grey = np.full_like(photo, 128)
    assert "clipped" in verify.faults(photo, np.where(photo > 100, 255, photo).astype(np.uint8), BLUR)
    assert "flat" in verify.faults(photo, grey, BLUR)
    assert "unchanged" in verify.faults(photo, photo, BLUR)
    thin = TAXONOMY.degradation("haze", {"atmospheric_light": 0.5, "transmission": 0.99})
    assert verify.faults(photo, degrade(photo, thin), thin) == ("haze_thin",)
    dense = TAXONOMY.degradation("haze", {"atmospheric_light": 1.0, "transmission": 0.1})
    night = (photo // 8).astype(np.uint8)
    assert "haze_opaque" in verify.faults(night, degrade(night, dense), dense)


def test_haze_on_a_wall_is_refused_and_in_a_landscape_not_whatever_the_unit_of_depth(photo):
    hazy, wall = degrade(photo, HAZE), np.full(photo.shape[:2], 4.0) + np.linspace(0, 1, photo.shape[1])
    landscape = np.geomspace(5, 400, photo.shape[0])[:, None] * np.ones(photo.shape[1])
    for unit in (1.0, 1000.0):
        assert verify.faults(photo, hazy, HAZE, unit * wall) == ("haze_near",)
        assert verify.faults(photo, hazy, HAZE, unit * landscape) == ()
    assert verify.faults(photo, degrade(photo, BLUR), BLUR, wall) == ()
    assert verify.faults(photo, hazy, HAZE) == ()


def test_a_corpus_over_depth_gives_no_haze_to_a_photo_of_a_wall(tmp_path, photo):
    depths = {"wall": np.ones((128, 128)), "view": np.geomspace(1, 90, 128)[:, None] * np.ones(128)}
    for turns, split in enumerate(("train", "val", "test")):  # turned: other photographs, for who looks for duplicates
        (tmp_path / split).mkdir()
        for name, depth in depths.items():
            picture = np.rot90(photo if name == "view" else photo[:, ::-1] ^ 7, turns)
            Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / split / f"{split}-{name}.png")
            np.save(tmp_path / split / f"{split}-{name}.depth.npy", depth)
    recipe, _ = build.plan(Config(photos=str(tmp_path), count=240, size=48, world=World(depth="file")))
    drawn = [generate_sample(recipe, "train", index) for index in range(40)]
    hazy = [one for one in drawn if one.degradation.type == "haze"]
    assert any("haze_near" in one.passed_over for one in hazy)
    assert all(one.sound for one in hazy)
    assert {one.photo.photo_id.split("-")[-1] for one in hazy} == {"view"}
    assert any("wall" in one.photo.photo_id for one in drawn)


def test_an_unbelievable_draw_gives_way_to_the_next_one(recipe):
    drawn = [generate_sample(recipe, "train", index) for index in range(200)]
    again = [one for one in drawn if one.passed_over]
    assert again
    assert all(one.sound for one in again)
    for one in again:
        assert verify.faults(one.clean, one.degraded, one.degradation) == ()


def test_photos_without_any_believable_crop_are_kept_and_named_in_the_card(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        (tmp_path / "photos" / split).mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / "photos" / split / "black.png")
    recipe, skipped = build.plan(Config(photos=str(tmp_path / "photos"), count=12, size=48))
    build.build(recipe, skipped, tmp_path / "corpus")
    found = read_card(tmp_path / "corpus")["verification"]
    assert len(found["kept_after_all_attempts"]) == 12
    assert sum(found["drawn_again"].values()) == 12 * ATTEMPTS
    assert "train-0000000" in (tmp_path / "corpus" / "README.md").read_text()


def test_a_tampered_image_or_value_does_not_reproduce(recipe):
    row = generate.row(recipe, "train", 2)
    assert reproduces(row, TAXONOMY)
    degraded = decode(row["degraded"])
    degraded[5, 5, 1] ^= 1
    assert not reproduces({**row, "degraded": encode(degraded)}, TAXONOMY)
    assert row["type"] == "blur"
    assert not reproduces({**row, "values": '{"sigma": 5.0}'}, TAXONOMY)
