"""What no camera would have seen, or nobody could read, is drawn again; what remains is named."""

import numpy as np
import pytest
from PIL import Image

from configs.schema import Config, World
from envs import corpus, verify
from envs.corpus_rows import ATTEMPTS, draw, reproduces
from envs.policy_world import world_taxonomy

TAXONOMY = world_taxonomy(World())
BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})
HAZE = TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": 0.4})
DARK = TAXONOMY.degradation("low_light", {"gamma": 3.5, "gain": 0.05})


@pytest.fixture(scope="module")
def recipe():
    return corpus.plan(Config(count=400, size=48))[0]


@pytest.mark.parametrize("degradation", [BLUR, HAZE, DARK])
def test_a_photograph_degraded_as_it_should_be_is_believable(photo, degradation):
    assert verify.faults(photo, corpus.degrade(photo, degradation), degradation) == ()


def test_each_fault_is_recognised(photo):
    grey = np.full_like(photo, 128)
    assert "clipped" in verify.faults(photo, np.where(photo > 100, 255, photo).astype(np.uint8), BLUR)
    assert "flat" in verify.faults(photo, grey, BLUR)
    assert "unchanged" in verify.faults(photo, photo, BLUR)
    thin = TAXONOMY.degradation("haze", {"atmospheric_light": 0.5, "transmission": 0.99})
    assert verify.faults(photo, corpus.degrade(photo, thin), thin) == ("haze_thin",)
    dense = TAXONOMY.degradation("haze", {"atmospheric_light": 1.0, "transmission": 0.1})
    night = (photo // 8).astype(np.uint8)
    assert "haze_opaque" in verify.faults(night, corpus.degrade(night, dense), dense)


def test_dense_haze_is_refused_indoors_and_not_in_a_landscape():
    indoors, landscape = np.full((8, 8), 4.0), np.full((8, 8), 400.0)
    assert verify.haze_on_near_scene(HAZE, indoors)
    assert not verify.haze_on_near_scene(HAZE, landscape)
    assert not verify.haze_on_near_scene(HAZE, None)


def test_an_unbelievable_draw_gives_way_to_the_next_one(recipe):
    drawn = [draw(recipe, "train", index) for index in range(200)]
    again = [one for one in drawn if one.passed_over]
    assert again
    assert all(one.sound for one in again)
    for one in again:
        assert verify.faults(one.clean, one.degraded, one.degradation) == ()


def test_photos_without_any_believable_crop_are_kept_and_named_in_the_card(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        (tmp_path / "photos" / split).mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / "photos" / split / "black.png")
    recipe, skipped = corpus.plan(Config(photos=str(tmp_path / "photos"), count=12, size=48))
    corpus.build(recipe, skipped, tmp_path / "corpus")
    found = corpus.read_card(tmp_path / "corpus")["verification"]
    assert len(found["kept_after_all_attempts"]) == 12
    assert sum(found["drawn_again"].values()) == 12 * ATTEMPTS
    assert "train-0000000" in (tmp_path / "corpus" / "README.md").read_text()


def test_a_tampered_image_or_value_does_not_reproduce(recipe):
    row = corpus.row(recipe, "train", 2)
    assert reproduces(row, TAXONOMY)
    degraded = corpus.decode(row["degraded"])
    degraded[5, 5, 1] ^= 1
    assert not reproduces({**row, "degraded": corpus.encode(degraded)}, TAXONOMY)
    assert row["type"] == "blur"
    assert not reproduces({**row, "values": '{"sigma": 5.0}'}, TAXONOMY)
