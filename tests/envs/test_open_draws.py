"""What the open world draws, as docs/physics.md says it: shares of types, laws, crops, and exposures without gaps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs.load import load
from envs.corpus.augment import refreshed, varied
from envs.corpus.datasets import Photo
from envs.corpus.generate import NATIVE_SHARE, Recipe, crop_and_place, generate_sample
from envs.corpus.photos import find_photos
from envs.degradations import sample
from envs.nuisances import Nuisances
from envs.taxonomy import NONE, samples_a_photo, taxonomy, turns, world_taxonomy
from envs.types import Sample
from envs.world import in_own_world, world_of, write_world
from learner.policy.tiny import build_tiny_policy

OPEN = world_taxonomy(load("corpus", ["world=open"]).world)


def drawn(name, count=400, world=OPEN):
    rng = np.random.default_rng(11)
    return [dict(sample(world, name, rng, 128).values) for _ in range(count)]


def test_a_fifth_is_none_half_are_single_and_the_rest_composites():
    kinds = Counter("none" if k.name == NONE else len(k.parts) > 1 for k in turns(OPEN))
    total = kinds.total()
    assert kinds["none"] / total == pytest.approx(0.2)
    assert kinds[False] / total == pytest.approx(0.5)
    assert kinds[True] / total == pytest.approx(0.3)
    each = Counter(kind.name for kind in turns(OPEN))
    assert len({each[kind.name] for kind in OPEN.singles if kind.phenomena}) == 1


def test_a_photograph_shows_every_kind_of_sample_and_then_the_next_has_its_turn():
    photos = tuple(Photo(f"train/{number}", Path(f"{number}.png"), "train") for number in range(30))
    recipe = Recipe(1, 128, load("corpus", ["world=open"]).world, {"train": photos}, {"train": 300})
    order = turns(OPEN)
    shown = [(recipe.photo("train", i // samples_a_photo(OPEN)).photo_id, order[i % len(order)]) for i in range(300)]
    assert len({photo for photo, _ in shown}) == 30
    for number in range(30):
        kinds = [kind for photo, kind in shown if photo == f"train/{number}"]
        assert sum(kind.name == NONE for kind in kinds) == 2
        assert sum(len(kind.parts) > 1 for kind in kinds) == 3


def test_a_corpus_of_other_laws_of_the_open_world_is_another(monkeypatch):
    def fingerprints() -> list[str]:
        worlds = (load("corpus", [f"world={name}"]).world for name in ("paper", "open"))
        return [Recipe(1, 128, world, {}, {}).fingerprint() for world in worlds]

    paper, opened = fingerprints()
    monkeypatch.setattr("envs.corpus.generate.OPEN_LAWS", 3)
    assert fingerprints()[0] == paper
    assert fingerprints()[1] != opened


def test_a_corpus_takes_all_its_photographs(tmp_path):
    """The real build: a round of types is longer than any test corpus, and must not be one photograph's."""
    rng = np.random.default_rng(0)
    for number in range(6):
        picture = cv2.resize(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), (160, 160))
        (tmp_path / "photos" / "train").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / "train" / f"{number}.png"), picture)
    config = load("corpus", ["world=open", f"photos={tmp_path / 'photos'}", "count=60"])
    photos = tuple(find_photos(config.photos))
    recipe = Recipe(1, 64, config.world, {"train": photos}, {"train": 60})
    assert len({generate_sample(recipe, "train", index).photo.photo_id for index in range(0, 60, 5)}) == 6


def test_low_light_goes_from_night_to_slight_underexposure_and_no_further():
    values = drawn("low_light")
    grey = [v["gain"] * 0.5 ** v["gamma"] for v in values]
    assert max(grey) <= 0.281
    assert np.mean([v["gain"] <= 0.10 for v in values]) == pytest.approx(0.5, abs=0.1)
    assert max(v["gain"] for v in values) > 0.5


def test_the_paper_draws_as_it_did():
    values = drawn("low_light", world=taxonomy())
    assert all(0.05 <= v["gain"] <= 0.10 and v["gamma"] >= 2 for v in values)


def test_haze_may_be_white_and_thin():
    values = drawn("haze", 2000)
    assert np.mean([v["atmospheric_light"] > 0.9 for v in values]) > 0.08  # .05 by the law of the paper
    assert min(v["transmission"] for v in values) < 0.25 < 0.7 < max(v["transmission"] for v in values)


def test_crops_are_as_sharp_as_their_file_as_often_as_is_said():
    photo = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    sides = [crop_and_place(photo, 128, rng, NATIVE_SHARE)[1][2] for _ in range(400)]
    assert np.mean(np.array(sides) == 128) == pytest.approx(NATIVE_SHARE, abs=0.07)
    assert crop_and_place(photo, 128, rng)[1][2] > 128


def test_a_brighter_exposure_leaves_no_gaps_between_levels():
    ramp = np.repeat(np.linspace(60, 120, 128).round().astype(np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    gaps = {}
    for dithered in (False, True):
        made = varied(ramp, np.random.default_rng(5), dithered)[..., 0]
        gaps[dithered] = np.ptp(made) + 1 - len(np.unique(made))
    assert gaps[True] == 0
    assert gaps[False] > 0


def test_a_refreshed_sample_has_nuisances_but_one_exposure_alone(photo, monkeypatch):
    seen = []
    monkeypatch.setattr(Nuisances, "degrade", lambda self, x, degradation, t=None: seen.append(self) or x)
    truth = OPEN.degradation("blur", {"sigma": 2.0})
    for index in range(20):
        refreshed(Sample("s", "p", "train", photo, photo, truth), OPEN, 3, 0, index, draws_nuisances=True)
    assert {nuisances.exposure for nuisances in seen} == {1.0}
    assert any(nuisances.sensor_noise for nuisances in seen)


def test_a_policy_in_a_folder_brings_its_world(tmp_path):
    world = load("sft", ["world=open"]).world
    folder = build_tiny_policy(tmp_path / "policy", OPEN)
    write_world(folder, world)
    config = load("restore", ["world=paper"])
    assert in_own_world(config, folder).world == world == world_of(folder)
    assert in_own_world(config, "shipped") is config


def test_a_track_may_name_a_world():
    assert "noise" in load("degrade").world.types
    assert "noise" not in load("degrade", ["world=paper"]).world.types
    assert "noise" in load("restore").world.types
    assert load("restore", ["world=paper"]).world == load("evaluate").world
