"""Nuisances: what is drawn, what it does to a picture, and a corpus of the open world from end to end."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs.load import load
from configs.schema import WORLDS
from envs.corpus import build
from envs.corpus.augment import refreshed
from envs.corpus.generate import decode, degrade, reproduces, row
from envs.corpus.reader import read_samples
from envs.corpus.shards import IMAGES
from envs.degradations import NONE
from envs.nuisances import Nuisances
from envs.taxonomy import taxonomy
from envs.types import Sample

OPEN = taxonomy(**WORLDS["open"])
NOTHING = OPEN.degradation(NONE, {})


def drawn(degradation, count=400):
    return [Nuisances.draw(np.random.default_rng(seed), degradation) for seed in range(count)]


def test_what_is_drawn_is_weak_and_comes_back_from_its_record():
    some = drawn(NOTHING)
    assert all(Nuisances.of(json.loads(json.dumps(each.as_dict()))) == each for each in some)
    assert max(each.sensor_noise**2 + each.shot_noise**2 for each in some) < 5**2
    assert {each.jpeg_quality for each in some} <= {0, *range(75, 101)}
    assert {each.subsampling for each in some} == {"4:2:0", "4:4:4"}
    for name, absent in (("exposure", 1), ("sensor_noise", 0), ("jpeg_quality", 0)):
        share = np.mean([getattr(each, name) != absent for each in some])
        assert share == pytest.approx(0.7, abs=0.08)


def test_a_degradation_has_no_nuisance_of_its_own_kind():
    assert not any(each.sensor_noise for each in drawn(OPEN.degradation("noise", {"noise_level": 9}), 50))
    assert not any(each.jpeg_quality for each in drawn(OPEN.degradation("jpeg", {"quality": 30}), 50))
    dark = OPEN.degradation("low_light", {"gamma": 2, "gain": 0.2})
    assert all(each.exposure == 1 for each in drawn(dark, 50))


def test_noise_comes_before_a_reduction_and_jpeg_after_it(photo):
    reduced = OPEN.degradation("low_resolution", {"scale": 4})
    noisy = degrade(photo, reduced, nuisances=Nuisances(sensor_noise=3.0))
    assert (noisy[::4] == noisy[1::4]).all()  # replicated after the noise
    assert 0.5 < np.std(noisy.astype(float) - degrade(photo, reduced)) < 2  # which the reduction has averaged
    coded = degrade(photo, reduced, nuisances=Nuisances(jpeg_quality=80))
    assert (coded[::4] != coded[1::4]).any()


def test_nuisances_change_little_and_none_changes_nothing(photo):
    np.testing.assert_array_equal(degrade(photo, NOTHING, nuisances=Nuisances()), photo)
    some = Nuisances(sensor_noise=3.0, shot_noise=2.0)
    changed = degrade(photo, NOTHING, nuisances=some).astype(float) - photo
    assert 2.8 < changed.std() < 3.7
    np.testing.assert_array_equal(some.exposed(photo), photo)
    brighter = Nuisances(exposure=1.1, white_balance=(1.0, 0.96, 1.04)).exposed(np.full((2, 2, 3), 100, np.uint8))
    assert brighter[0, 0].tolist() == [110, 106, 114]


def test_a_corpus_of_the_open_world_is_made_again_from_its_rows(tmp_path):
    config = load("corpus", ["world=open", "world.composites=2", "count=50", "size=48"])
    recipe, skipped = build.plan(config)
    build.build(recipe, skipped, tmp_path / "corpus")
    card = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert card["world"]["types"] == WORLDS["open"]["types"]
    assert card["world"]["nuisances"]
    assert card["nuisances"]["jpeg_quality"]["least"] >= 75
    assert "## Nuisances" in (tmp_path / "corpus" / "README.md").read_text()
    rows = pq.read_table(tmp_path / "corpus" / "train-00000-of-00001.parquet").to_pylist()
    rows = [{**each, **{name: each[name] and each[name]["bytes"] for name in IMAGES}} for each in rows]
    assert all(reproduces(each, OPEN) for each in rows[:8])
    untouched = [each for each in rows if each["type"] == NONE]
    assert untouched
    for each in untouched:
        assert (each["answer"], json.loads(each["values"])) == ("[T-none]", {})
        assert np.abs(decode(each["clean"]).astype(float) - decode(each["degraded"])).mean() < 8
    samples = read_samples(tmp_path / "corpus", "train", taxonomy(**WORLDS["open"] | {"composites": 2}))
    assert NONE in {degradation.type for degradation in samples.degradations()}


def test_a_world_without_nuisances_has_no_column_of_them():
    recipe, _ = build.plan(load("corpus", ["world=paper", "count=20", "size=32"]))
    assert "nuisances" not in row(recipe, "train", 0)
    assert recipe.fingerprint() != dataclasses.replace(recipe, world=load("corpus", ["world=open"]).world).fingerprint()


def test_a_refreshed_sample_of_the_open_world_has_nuisances_of_its_own(photo):
    old = Sample("s", "p", "train", photo, photo, NOTHING)
    first, again = (refreshed(old, OPEN, 0, 0, 3, draws_nuisances=True) for _ in range(2))
    np.testing.assert_array_equal(first.degraded, again.degraded)
    assert any((new := refreshed(old, OPEN, 0, e, 3, draws_nuisances=True)).degraded.tobytes() != new.clean.tobytes()
               for e in range(3))
