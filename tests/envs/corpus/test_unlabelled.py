"""Pictures for online RL: a bare folder, and a corpus whose truth is withheld."""

import numpy as np
import pytest
from PIL import Image

from configs import UserError
from envs.corpus.unlabelled import Blind, Photographs, central_square
from envs.taxonomy import TAXONOMY
from envs.types import Sample


def save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_a_folder_of_pictures_is_read_as_it_is(tmp_path, photo, capsys):
    save(photo, tmp_path / "a.png")
    save(np.ascontiguousarray(photo[::-1]), tmp_path / "test" / "b.png")
    save(np.clip(photo.astype(int) + 1, 0, 255).astype(np.uint8), tmp_path / "like_a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(b"no picture either")
    save(photo[:100], tmp_path / "small.png")
    found = Photographs(str(tmp_path), 128)
    assert sorted(found.sample_ids()) == ["a", "like_a", "test/b"]
    assert capsys.readouterr().out == f"photos={tmp_path}: 3 pictures; skipped: 1 unreadable, 1 below 128 px\n"
    sample = found[found.sample_ids().index("a")]
    assert np.array_equal(sample.degraded, photo)  # of the right size: to the bit
    assert (sample.clean, sample.degradation) == (None, None)


def test_a_folder_without_a_picture_large_enough_is_refused(tmp_path, photo):
    save(photo[:100, :100], tmp_path / "a.png")
    with pytest.raises(UserError, match="at least 128 px"):
        Photographs(str(tmp_path), 128)


def test_a_larger_picture_is_its_central_square_reduced(photo):
    wide = np.concatenate([np.zeros_like(photo[:, :50]), photo, np.zeros_like(photo[:, :50])], 1)
    assert np.array_equal(central_square(wide, 128), photo)
    half = central_square(photo, 64)
    assert half.shape == (64, 64, 3)
    blocks = photo.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(half - blocks).max() <= 1


def test_a_blinded_corpus_shows_pictures_only(photo):
    truth = TAXONOMY.degradation("blur", {"sigma": 2.0})
    (sample,) = Blind([Sample("a", "p", "train", photo, photo, truth)])
    assert sample.degraded is photo
    assert (sample.clean, sample.degradation) == (None, None)


def test_two_files_of_one_name_are_two_samples(tmp_path, photo):
    save(photo, tmp_path / "a.png")
    save(np.ascontiguousarray(photo[::-1]), tmp_path / "a.bmp")
    found = Photographs(str(tmp_path), 128)
    assert len(set(found.sample_ids())) == 2
    assert [sample.sample_id for sample in found] == found.sample_ids()
    assert {sample.photo_id for sample in found} == {"a"}
