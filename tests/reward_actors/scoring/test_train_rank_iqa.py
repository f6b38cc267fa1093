"""What scores of a picture alone learn from photographs."""

import pytest
import torch

from configs import UserError, load
from configs.schema import World
from envs.corpus.photos import find_photos
from envs.world import world_taxonomy
from reward_actors.scoring import natural_statistics, rank_iqa, train_rank_iqa
from reward_actors.scoring.train_rank_iqa import GUESSES, Groups, RankTrainer, concordance


@pytest.fixture
def quick(monkeypatch):
    """Few crops and little judging, so that it is quick; the shipped files are the same with more."""
    monkeypatch.setattr(train_rank_iqa, "CROPS_PER_PHOTO", 8)
    monkeypatch.setattr(train_rank_iqa, "VALIDATION_BATCHES", 1)
    monkeypatch.setattr(train_rank_iqa, "SAVE_STEPS", 2)


def test_a_model_is_fitted_to_photographs_the_same_every_time(quick, tmp_path):
    texts = []
    for name in ("first", "second"):
        train_rank_iqa.run(load("fit-iqa", ["photos=bundled", f"out={tmp_path / name}"]))
        texts.append((tmp_path / name / "niqe_local.json").read_text())
    assert texts[0] == texts[1]
    found, shipped = natural_statistics.load(str(tmp_path / "first" / "niqe_local.json")), natural_statistics.load()
    assert found.about["photos"] == shipped.about["photos"]
    assert torch.allclose(found.mean, shipped.mean, atol=0.35)
    assert torch.linalg.eigvalsh(shipped.covariance).min() > 0


def test_a_network_that_was_stopped_is_trained_on_to_the_same_weights(quick, tmp_path, monkeypatch):
    def fit(name):
        train_rank_iqa.run(load("fit-iqa", ["photos=bundled", "size=64", "steps=4", f"out={tmp_path / name}"]))
        return (tmp_path / name / "rank_iqa.safetensors").read_bytes()

    def stop(self, batch):
        if self.step == 3:
            raise InterruptedError
        return train(self, batch)

    train, whole = RankTrainer.train, fit("whole")
    monkeypatch.setattr(RankTrainer, "train", stop)
    with pytest.raises(InterruptedError):
        fit("stopped")
    monkeypatch.setattr(RankTrainer, "train", train)
    assert fit("stopped") == whole
    file = str(tmp_path / "whole" / "rank_iqa.safetensors")
    assert rank_iqa.rank(*torch.rand(2, 1, 3, 64, 64), file).isfinite().all()


def test_a_group_is_one_picture_restored_under_several_values():
    groups = Groups([photo for photo in find_photos("bundled") if photo.split == "val"], World(), 64, 0)
    restored, given, decibel, kinds = groups.batch(3)
    assert restored.shape == (8, GUESSES, 3, 64, 64)
    assert given.shape == (8, 3, 64, 64)
    assert decibel.shape == (8, GUESSES)
    assert set(kinds) <= {kind.name for kind in world_taxonomy(World()).types}
    assert (decibel.std(1) > 0.01).sum() > 4  # guesses may snap to one value
    again = groups.batch(3)
    assert torch.equal(again[0], restored)
    assert not torch.equal(groups.batch(4)[0], restored)


def test_the_shipped_network_knows_the_better_restoration_of_photographs_it_has_not_seen():
    photos = [photo for photo in find_photos("bundled") if photo.split != "train"]
    found = concordance(rank_iqa.load(), Groups(photos, World(), 128, 5), 8)
    assert min(found.values()) > 0.6
    assert sum(found.values()) / len(found) > 0.75


def test_a_network_is_not_trained_without_photographs_to_judge_it_by(tmp_path, photo):
    import cv2

    (tmp_path / "train").mkdir()
    cv2.imwrite(str(tmp_path / "train" / "face.png"), photo)
    with pytest.raises(UserError, match="photographs of the val split, found none"):
        train_rank_iqa.run(load("fit-iqa", [f"photos={tmp_path}", "size=64", "steps=1", f"out={tmp_path / 'out'}"]))
    assert not (tmp_path / "out").exists()


def test_what_was_fitted_is_kept_and_another_training_is_not_continued(quick, tmp_path, monkeypatch):
    settings = ["photos=bundled", "size=64", "steps=2", f"out={tmp_path / 'out'}"]
    train_rank_iqa.run(load("fit-iqa", settings))
    fitted, fit = [], natural_statistics.fit
    monkeypatch.setattr(natural_statistics, "fit", lambda *what: fitted.append(what) or fit(*what))
    train_rank_iqa.run(load("fit-iqa", settings))
    assert not fitted
    with pytest.raises(UserError, match="resume=false"):
        train_rank_iqa.run(load("fit-iqa", [*settings, "seed=1"]))
    assert natural_statistics.load(str(tmp_path / "out" / "niqe_local.json")).about["seed"] == 0
    train_rank_iqa.run(load("fit-iqa", [*settings, "seed=1", "resume=false"]))
    assert len(fitted) == 1
