"""What a training job begins with when its run folder holds the corpus and the first policy of an earlier run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import UserError, load
from envs.corpus import build
from envs.world import write_world
from learner.corpus import training_corpus
from learner.policy import initial as adoption
from learner.policy.initial import initial_policy


@pytest.fixture
def photos(tmp_path, photo):
    """Two folders of photographs, of different ones."""
    for name, turn in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.rot90(np.roll(photo, 30 * i, 0), turn)).save(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.fixture
def built(monkeypatch):
    """Stands in for the building of a corpus: leaves its card; what was built."""
    made = []

    def run(settings):
        recipe, _ = build.plan(settings)
        Path(settings.out).mkdir(exist_ok=True)
        card = {"recipe": recipe.fingerprint(), "seed": settings.seed, "counts": {}, "taxonomy": "", "size": 64}
        (Path(settings.out) / "corpus.json").write_text(json.dumps(card))
        made.append((settings.photos, settings.seed))

    monkeypatch.setattr(build, "run", run)
    return made


def config(photos, *changes):
    return load("sft", ["world=paper", "world.size=64", "count=20", f"photos={photos}", *changes])


def test_a_run_that_begins_anew_has_a_corpus_of_its_own_photographs(photos, built):
    a, b = photos / "a", photos / "b"
    training_corpus(config(a), photos)
    training_corpus(config(b, "resume=false"), photos)
    training_corpus(config(b, "resume=false", "seed=1"), photos)
    assert built == [(str(a), 0), (str(b), 0), (str(b), 1)]


@pytest.mark.parametrize("change", ["photos", "seed=1", "count=30", "world.depth=procedural"])
def test_a_run_is_not_continued_on_another_corpus(photos, built, change):
    folder = training_corpus(config(photos / "a"), photos)
    assert training_corpus(config(photos / "a"), photos, of_this_seed=True) == folder
    other = config(photos / "b") if change == "photos" else config(photos / "a", change)
    with pytest.raises(UserError, match="is not the corpus of these photographs and settings"):
        training_corpus(other, photos, of_this_seed=True)
    assert len(built) == 1


def test_trainings_with_several_seeds_share_a_corpus(photos, built):
    folder = training_corpus(config(photos / "a"), photos)
    assert training_corpus(config(photos / "a", "seed=1"), photos) == folder
    assert len(built) == 1


def test_a_corpus_that_is_built_for_a_job_has_pictures_of_its_size(photos, built):
    with pytest.raises(UserError, match="size=96: .* world.size=64"):
        training_corpus(config(photos / "a", "size=96"), photos)
    assert not built


@pytest.fixture
def models(policy_folder, tmp_path, monkeypatch):
    """Two models of somebody else. What their adoption does to them is no matter here."""

    def adopt(model, out, world):
        shutil.copytree(model, out)
        write_world(out, world)

    monkeypatch.setattr(adoption, "adopt", adopt)
    for name in "ab":
        shutil.copytree(policy_folder, tmp_path / name, ignore=shutil.ignore_patterns("world.json"))
        (tmp_path / name / "whose").write_text(name)
    return tmp_path


def begun(folder, policy, *changes):
    return initial_policy(load("sft", ["world=paper", "world.size=64", f"policy={policy}", *changes]), folder)


def test_a_run_that_begins_anew_begins_with_the_model_it_names(models):
    assert (begun(models, models / "a") / "whose").read_text() == "a"
    assert (begun(models, models / "b", "resume=false") / "whose").read_text() == "b"


def test_a_run_is_continued_from_the_model_it_began_with(models, monkeypatch):
    folder = begun(models, models / "a")
    monkeypatch.setattr(adoption, "adopt", None)
    assert begun(models, models / "a") == folder
    with pytest.raises(UserError, match=f"began with {models / 'a'}"):
        begun(models, models / "b")


def test_a_model_adopted_before_is_not_mixed_with_random_weights(models):
    begun(models, models / "a")
    random = begun(models, "random")
    assert not (random / "whose").exists()
    assert (begun(models, models / "a") / "whose").read_text() == "a"
