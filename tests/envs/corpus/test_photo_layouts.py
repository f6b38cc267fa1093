"""The layouts of CelebA, BDD100K and nuScenes, as folders of that shape, with pictures of their true sizes."""

import json
from pathlib import Path

import pytest
from layouts import PHOTOS, SIZES, make_nuscenes, place
from PIL import Image

from configs import UserError
from configs.schema import Config
from envs.corpus import build
from envs.corpus.card import make_card
from envs.corpus.photos import find_photos, scan_photos


def splits(spec: str) -> dict[str, str]:
    return {photo.photo_id: photo.split for photo in find_photos(spec)}


@pytest.fixture
def celeba(tmp_path):
    for number in range(5):
        place(number, tmp_path / "img_align_celeba" / f"{number + 1:06d}.jpg", SIZES["celeba"])
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n")
    return tmp_path


def test_celeba_is_split_as_its_partition_says(celeba):
    photos, skipped = scan_photos(f"celeba:{celeba}")
    assert [(p.photo_id, p.split) for p in photos] == [
        ("000001", "train"),
        ("000002", "train"),
        ("000003", "val"),
        ("000004", "test"),
    ]
    assert all("non-commercial" in photo.licence for photo in photos)
    assert {Path(path).name: why for path, why in skipped.items()} == {
        "000005.jpg": "not listed in list_eval_partition.txt"
    }


def test_celeba_pictures_that_are_listed_and_missing_are_told(celeba):
    (celeba / "img_align_celeba" / "000002.jpg").unlink()
    _, skipped = scan_photos(f"celeba:{celeba}")
    assert "1 of the pictures it lists are not there" in skipped[str(celeba / "list_eval_partition.txt")]


def test_a_damaged_partition_is_the_users_error(celeba):
    (celeba / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg seven\n")
    with pytest.raises(UserError, match="line 2"):
        find_photos(f"celeba:{celeba}")


def test_bdd100k_keeps_its_splits(tmp_path):
    for number, split in enumerate(("train", "train", "val", "test")):
        place(number, tmp_path / "bdd100k/images/100k" / split / f"{number}.jpg", SIZES["bdd100k"])
    found = {"train/0": "train", "train/1": "train", "val/2": "val", "test/3": "test"}
    assert splits(f"bdd100k:{tmp_path}") == found


@pytest.fixture
def nuscenes(tmp_path):
    return make_nuscenes(tmp_path, scenes=6, frames=2)


def test_frames_of_one_nuscenes_scene_are_in_one_split(nuscenes):
    photos = find_photos(f"nuscenes:{nuscenes}")
    assert len(photos) == 12
    by_scene = {}
    for photo in photos:
        by_scene.setdefault(photo.scene, set()).add(photo.split)
    assert sorted(by_scene) == [f"scene-{s:04d}" for s in range(6)]
    assert all(len(found) == 1 for found in by_scene.values())
    assert set.union(*by_scene.values()) == {"train", "val", "test"}


def test_a_truncated_table_is_the_users_error(nuscenes):
    table = nuscenes / "v1.0-mini" / "sample_data.json"
    table.write_text(table.read_text()[:-30])
    with pytest.raises(UserError, match="ends early"):
        find_photos(f"nuscenes:{nuscenes}")


@pytest.mark.parametrize(
    ("layout", "missing"),
    [
        ("celeba", "img_align_celeba, list_eval_partition.txt"),
        ("bdd100k", "bdd100k/images/100k/train"),
        ("nuscenes", "samples/CAM_FRONT"),
    ],
)
def test_what_a_layout_lacks_is_named(tmp_path, layout, missing):
    with pytest.raises(UserError, match=missing):
        find_photos(f"{layout}:{tmp_path}")


def test_an_unknown_layout_is_named_and_so_are_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"imagenet.*celeba:DIR"):
        find_photos(f"imagenet:{tmp_path}")


def test_several_folders_are_one_set_with_distinct_names(celeba, tmp_path):
    for number in range(6, 9):
        place(number, tmp_path / "own" / f"{number - 5:06d}.jpg")
    found = splits(f"celeba:{celeba},{tmp_path / 'own'}")
    assert {name for name in found if name.startswith("own/")} == {f"own/{n:06d}" for n in (1, 2, 3)}
    assert found[f"{celeba.name}/000004"] == "test"


def test_attribution_beside_the_photos_gives_their_licences(tmp_path):
    place(0, tmp_path / "a" / "one.jpg")
    place(1, tmp_path / "two.jpg")
    entry = {"file": "a/one.jpg", "licence": "CC0-1.0", "author": "A. Person", "source": "holidays"}
    (tmp_path / "attribution.json").write_text(json.dumps([entry]))
    photos = {photo.photo_id: photo for photo in find_photos(str(tmp_path))}
    assert (photos["a/one"].licence, photos["a/one"].author, photos["a/one"].source) == tuple(entry.values())[1:]
    assert photos["two"].licence == "unknown"
    (tmp_path / "attribution.json").write_text("{}")
    assert scan_photos(str(tmp_path))[0][0].licence == "unknown"
    (tmp_path / "attribution.json").write_text('["one.jpg"]')
    with pytest.raises(UserError, match=r"attribution\.json"):
        find_photos(str(tmp_path))


def test_depth_beside_a_photo_is_no_photo(tmp_path):
    place(0, tmp_path / "one.jpg")
    for name in ("one.depth.png", "one.disparity.png"):
        Image.new("L", (80, 80)).save(tmp_path / name)
    assert [photo.photo_id for photo in find_photos(str(tmp_path))] == ["one"]


def test_a_photo_in_two_splits_in_disguise_is_left_out_of_train_and_named_in_the_card(tmp_path):
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        place(number, tmp_path / split / f"{number}.jpg")
    with Image.open(PHOTOS[4]) as photo:
        smaller = photo.resize((photo.width * 3 // 4, photo.height * 3 // 4)).point(lambda level: min(255, level * 1.1))
        smaller.save(tmp_path / "train" / "disguised.jpg", quality=60)
    recipe, skipped = build.plan(Config(photos=str(tmp_path), count=40, size=48))
    assert [photo.photo_id for photo in recipe.photos["train"]] == ["train/0", "train/1", "train/2"]
    assert make_card(recipe, skipped)["skipped"] == {
        "disguised.jpg": "left out of train: near-identical to test/4 in test"
    }
