"""Which photographs are found, and that none is in two splits."""

import numpy as np
import pytest
from PIL import Image

from configs import UserError
from envs.corpus.photos import find_photos, scan_photos


def save(path, size=(80, 70), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_bundled_photos_are_attributed_and_in_every_split():
    photos = find_photos("bundled")
    assert {photo.split for photo in photos} == {"train", "val", "test"}
    assert all(photo.licence != "unknown" and photo.author != "unknown" for photo in photos)
    assert {photo.photo_id for photo in photos if photo.split == "test"} >= {"friends", "coffee", "rocket"}


def test_a_photo_is_in_one_split_only(tmp_path):
    for number in range(30):
        save(tmp_path / f"{number}.png", seed=number)
        save(tmp_path / f"{number}.jpg", seed=100 + number)  # the same scene in another format
    splits = {}
    for photo in find_photos(str(tmp_path)):
        splits.setdefault(photo.photo_id, set()).add(photo.split)
    assert len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())
    assert {next(iter(found)) for found in splits.values()} == {"train", "val", "test"}


def test_the_split_depends_on_the_seed_and_not_on_the_other_photos(tmp_path):
    for number in range(20):
        save(tmp_path / f"{number}.png", seed=number)
    first, again, other = (
        {photo.photo_id: photo.split for photo in find_photos(str(tmp_path), seed=seed)} for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("splits", [{"train"}, {"train", "test"}, {"train", "val", "test"}])
def test_few_photos_fill_as_many_splits_as_they_can(tmp_path, splits):
    for number in range(len(splits)):
        save(tmp_path / f"{number}.png", seed=number)
    assert {photo.split for photo in find_photos(str(tmp_path))} == splits


def test_folders_named_after_splits_are_honoured(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        save(tmp_path / split / "deep" / "a.png", seed=number)
    assert [(photo.photo_id, photo.split) for photo in find_photos(str(tmp_path))] == [
        ("test/deep/a", "test"),
        ("train/deep/a", "train"),
        ("val/deep/a", "val"),
    ]


def test_corrupt_small_and_repeated_pictures_are_skipped_and_named(tmp_path):
    good = save(tmp_path / "good.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "noise.webp").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "truncated.png").write_bytes(good.read_bytes()[:2000])
    save(tmp_path / "small.png", size=(300, 20))
    (tmp_path / "copy.png").write_bytes(good.read_bytes())
    (tmp_path / "notes.txt").write_text("not a picture")
    photos, skipped = scan_photos(str(tmp_path))
    assert len(photos) == 1
    reasons = {path.rpartition("/")[2]: why for path, why in skipped.items()}
    assert set(reasons) == {"empty.jpg", "noise.webp", "truncated.png", "small.png", "good.png"}
    assert "20 px" in reasons["small.png"]
    assert "copy.png" in reasons["good.png"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xd8\xff\xe0 not really"])
def test_a_folder_without_a_readable_photo_is_the_users_error(tmp_path, content):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match="expected photographs"):
        find_photos(str(tmp_path))


def test_a_missing_folder_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_photos(str(tmp_path / "nowhere"))
