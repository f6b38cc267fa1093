"""The corpus: same seed same bytes, uniform types, images that follow from their values."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import UserError
from configs.schema import Config, World
from envs import answer, corpus
from envs.policy_world import world_taxonomy

TAXONOMY = world_taxonomy(World())


def config(**settings) -> Config:
    return Config(**{"count": 40, "size": 48, **settings})


@pytest.fixture(scope="module")
def recipe() -> corpus.Recipe:
    return corpus.plan(config())[0]


@pytest.fixture(scope="module")
def folder(recipe, tmp_path_factory) -> Path:
    """A small corpus written without Ray."""
    out = tmp_path_factory.mktemp("corpus")
    for split, count in recipe.counts.items():
        rows = [corpus.row(recipe, split, index) for index in range(count)]
        pq.write_table(pa.Table.from_pylist(rows, corpus.SCHEMA), out / f"{split}-00000-of-00001.parquet")
    (out / "corpus.json").write_text(json.dumps(corpus.card(recipe, {})))
    return out


def test_a_sample_is_a_function_of_seed_split_and_index(recipe):
    other_seed = corpus.plan(config(seed=1))[0]
    assert corpus.row(recipe, "test", 3) == corpus.row(recipe, "test", 3)
    assert corpus.row(recipe, "test", 3)["clean"] != corpus.row(recipe, "test", 7)["clean"]
    assert corpus.row(recipe, "test", 3)["clean"] != corpus.row(other_seed, "test", 3)["clean"]


def test_types_take_turns_and_every_photo_meets_every_type(recipe):
    photos = len(recipe.photos["train"])
    rows = [corpus.row(recipe, "train", index) for index in range(4 * photos)]
    assert set(Counter((row["photo_id"], row["type"]) for row in rows).values()) <= {1, 2}  # 2: a stereo pair
    assert set(Counter(row["type"] for row in rows).values()) == {photos}


@pytest.mark.parametrize("world", [World(), World(camera=True, transmission_grid=4)])
def test_the_degraded_image_follows_from_clean_and_values_to_the_byte(world):
    recipe = corpus.plan(config(world=world))[0]
    taxonomy = world_taxonomy(world)
    for index in range(8):
        row = corpus.row(recipe, "val", index)
        degradation = taxonomy.degradation(row["type"], json.loads(row["values"]))
        degraded = corpus.degrade(corpus.decode(row["clean"]), degradation)
        np.testing.assert_array_equal(degraded, corpus.decode(row["degraded"]))
        assert answer.parse(row["answer"], taxonomy).degradation == degradation


def test_a_read_sample_is_what_was_written(folder, recipe):
    samples = corpus.read_samples(folder, "test", TAXONOMY)
    row = corpus.row(recipe, "test", 1)
    assert len(samples) == recipe.counts["test"]
    assert samples[1].sample_id == row["sample_id"]
    assert samples[1].degradation.as_dict() == {"type": row["type"], "values": json.loads(row["values"])}
    assert samples[1].degraded.shape == (48, 48, 3)
    assert samples[-1].sample_id == samples[len(samples) - 1].sample_id
    assert [sample.degradation for sample in samples] == samples.degradations()
    assert corpus.check_sample(samples[1])


def test_a_limit_and_a_slice_take_the_first_samples(folder):
    samples = corpus.read_samples(folder, "train", TAXONOMY, limit=5)
    assert samples.sample_ids() == corpus.read_samples(folder, "train", TAXONOMY)[:5].sample_ids()
    with pytest.raises(IndexError):
        samples[5]


def test_another_taxonomy_is_refused_and_both_are_named(folder):
    other = world_taxonomy(World(step_scale=5.0))
    with pytest.raises(UserError) as refusal:
        corpus.read_samples(folder, "test", other)
    assert TAXONOMY.fingerprint() in str(refusal.value)
    assert other.fingerprint() in str(refusal.value)


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match="no corpus"):
        corpus.read_samples(tmp_path, "test", TAXONOMY)


@pytest.mark.parametrize("count", [3, 10, 100, 2000, 110_000])
def test_split_sizes_sum_to_the_count(count):
    counts = corpus.split_counts(count)
    assert sum(counts.values()) == count
    assert min(counts.values()) >= 1
    assert max(counts, key=counts.get) == "train" or count < 10


def test_large_corpora_are_split_as_in_the_paper():
    assert corpus.split_counts(110_000) == {"train": 103_000, "val": 4_000, "test": 3_000}


def test_flat_squares_are_drawn_again():
    photo = np.zeros((400, 400, 3), np.uint8)
    photo[200:, 200:] = np.random.default_rng(0).integers(0, 256, (200, 200, 3))
    crops = [corpus.crop(photo, 32, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(crop.std() > 0 for crop in crops) >= 18


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other things"):
        corpus.run(config(out=str(tmp_path)))
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.engine
def test_ray_builds_the_same_bytes_at_any_parallelism_and_datasets_opens_them(tmp_path, recipe, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for name, rows in (("one", 64), ("many", 5)):
        monkeypatch.setattr(corpus, "TASK_ROWS", rows)
        corpus.run(config(out=str(tmp_path / name)))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"corpus.json", "README.md"} < set(files)
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()
    shards = {split: str(tmp_path / "one" / f"{split}-*.parquet") for split in recipe.counts}
    opened = load_dataset("parquet", data_files=shards, cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in opened.items()} == recipe.counts
    assert tuple(opened["test"].column_names) == corpus.COLUMNS
    assert opened["test"][2] == corpus.row(recipe, "test", 2)
    assert not list(tmp_path.glob(".*partial*"))
