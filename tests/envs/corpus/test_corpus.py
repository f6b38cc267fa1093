"""The corpus: same seed same bytes, uniform types, images that follow from their values."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpora import contents
from PIL import Image

from configs import UserError, manifest
from configs.schema import Config, World
from envs.corpus import build, generate
from envs.corpus import shards as corpus_shards
from envs.corpus.build import is_complete, split_counts
from envs.corpus.card import make_card
from envs.corpus.generate import Recipe, check_sample, crop, reproduces
from envs.corpus.reader import read_card, read_samples
from envs.corpus.shards import COLUMNS
from envs.degradations.depth import decode_map
from envs.language import answer
from envs.world import world_taxonomy

TAXONOMY = world_taxonomy(World())
ROOT = Path(__file__).parents[3]


def config(**settings) -> Config:
    return Config(**{"count": 40, "size": 48, **settings})


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return build.plan(config())[0]


@pytest.fixture(scope="module")
def folder(recipe, tmp_path_factory) -> Path:
    """A small corpus built in this process."""
    out = tmp_path_factory.mktemp("built") / "corpus"
    build.build(recipe, {}, out)
    return out


def test_a_sample_is_a_function_of_seed_split_and_index(recipe):
    other_seed = build.plan(config(seed=1))[0]
    assert generate.row(recipe, "test", 3) == generate.row(recipe, "test", 3)
    assert generate.row(recipe, "test", 3)["clean"] != generate.row(recipe, "test", 7)["clean"]
    assert generate.row(recipe, "test", 3)["clean"] != generate.row(other_seed, "test", 3)["clean"]


def test_types_take_turns_and_every_photo_meets_every_type(recipe):
    photos = len(recipe.photos["train"])
    rows = [generate.row(recipe, "train", index) for index in range(4 * photos)]
    assert set(Counter((row["photo_id"], row["type"]) for row in rows).values()) <= {1, 2}  # 2: a stereo pair
    assert set(Counter(row["type"] for row in rows).values()) == {photos}


@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(camera=True, transmission_grid=4),
        World(composites=3),
        World(depth="procedural", transmission_grid=4, composites=2),
    ],
)
def test_the_degraded_image_follows_from_what_the_row_says_to_the_byte(world):
    recipe = build.plan(config(world=world))[0]
    taxonomy = world_taxonomy(world)
    for index in range(2 * len(taxonomy.types)):
        row = generate.row(recipe, "train", index)
        degradation = taxonomy.degradation(row["type"], json.loads(row["values"]))
        assert answer.parse(row["answer"], taxonomy).degradation == degradation
        assert reproduces(row, taxonomy)
        assert (row["transmission"] is not None) == (world.depth != "none" and "haze" in degradation.types)


def test_haze_follows_the_depth_beside_a_photo_and_a_photo_without_is_the_users_error(tmp_path, photo):
    for number, split in enumerate(("train", "val", "test")):
        (tmp_path / split).mkdir()
        Image.fromarray(np.roll(photo, 40 * number, 1)).save(tmp_path / split / "a.png")
        np.save(tmp_path / split / "a.depth.npy", np.tile(np.linspace(9, 1, 128)[:, None], (1, 128)))
    settings = {"photos": str(tmp_path), "world": World(depth="file"), "count": 12}
    recipe, skipped = build.plan(config(**settings))
    assert skipped == {}
    row = generate.row(recipe, "train", 0)
    t = decode_map(row["transmission"])
    assert t.shape == (48, 48)
    assert np.all(np.diff(t.mean(1)) > 0)  # far at the top, near at the bottom
    np.save(tmp_path / "train" / "a.depth.npy", np.ones((128, 128)))
    assert build.plan(config(**settings))[0].fingerprint() != recipe.fingerprint()
    (tmp_path / "train" / "a.depth.npy").unlink()
    with pytest.raises(UserError, match=r"a\.depth\.png"):
        build.plan(config(**settings))


def test_a_read_sample_is_what_was_written(folder, recipe):
    samples = read_samples(folder, "test", TAXONOMY)
    row = generate.row(recipe, "test", 1)
    assert len(samples) == recipe.counts["test"]
    assert samples[1].sample_id == row["sample_id"]
    assert samples[1].degradation.as_dict() == {"type": row["type"], "values": json.loads(row["values"])}
    assert samples[1].degraded.shape == (48, 48, 3)
    assert samples[-1].sample_id == samples[len(samples) - 1].sample_id
    assert [sample.degradation for sample in samples] == samples.degradations()
    assert check_sample(samples[1])


def test_a_limit_and_a_slice_take_the_first_samples(folder):
    samples = read_samples(folder, "train", TAXONOMY, limit=5)
    assert samples.sample_ids() == read_samples(folder, "train", TAXONOMY)[:5].sample_ids()
    with pytest.raises(IndexError):
        samples[5]


def test_another_taxonomy_is_refused_and_both_are_named(folder):
    other = world_taxonomy(World(step_scale=5.0))
    with pytest.raises(UserError) as refusal:
        read_samples(folder, "test", other)
    assert TAXONOMY.fingerprint() in str(refusal.value)
    assert other.fingerprint() in str(refusal.value)


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match="no corpus"):
        read_samples(tmp_path, "test", TAXONOMY)


@pytest.mark.parametrize("count", [3, 10, 100, 2000, 110_000])
def test_split_sizes_sum_to_the_count(count):
    counts = split_counts(count)
    assert sum(counts.values()) == count
    assert min(counts.values()) >= 1
    assert max(counts, key=counts.get) == "train" or count < 10


def test_large_corpora_are_split_as_in_the_paper():
    assert split_counts(110_000) == {"train": 103_000, "val": 4_000, "test": 3_000}


def test_flat_squares_are_drawn_again():
    photo = np.zeros((400, 400, 3), np.uint8)
    photo[200:, 200:] = np.random.default_rng(0).integers(0, 256, (200, 200, 3))
    crops = [crop(photo, 32, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(crop.std() > 0 for crop in crops) >= 18


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other things"):
        build.run(config(out=str(tmp_path)))
    assert (tmp_path / "thesis.tex").exists()


def test_datasets_opens_the_folder_with_pictures_and_typed_values(folder, recipe, tmp_path, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    opened = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in opened.items()} == recipe.counts
    assert tuple(opened["test"].column_names) == (*COLUMNS, "parameters")
    read, written = opened["test"][2], generate.row(recipe, "test", 2)
    for name in ("clean", "degraded"):
        np.testing.assert_array_equal(np.asarray(read[name]), generate.decode(written[name]))
    assert {key: value for key, value in read["parameters"].items() if value is not None} == json.loads(read["values"])
    assert set(read["parameters"]) == set(TAXONOMY.keys)
    same = ("sample_id", "photo_id", "split", "type", "values", "answer", "transmission")
    assert {name: read[name] for name in same} == {name: written[name] for name in same}


def test_maps_of_haze_and_values_over_the_picture_are_nested_lists_and_pictures_too():
    world = World(depth="procedural", transmission_grid=4)
    recipe = build.plan(config(world=world))[0]
    rows = [generate.row(recipe, "train", index) for index in range(4)]
    table = corpus_shards.as_table(rows, world)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["transmission"] == {"_type": "Image"}
    for row, stored in zip(rows, table.to_pylist(), strict=True):
        there = {key: value for key, value in stored["parameters"].items() if value is not None}
        assert there == json.loads(row["values"])
        assert (stored["transmission"] or {}).get("bytes") == row["transmission"]


def test_the_card_of_a_corpus_tells_the_hub_its_licences_and_size(folder):
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(folder / "README.md").data
    assert set(data.license) == {"cc-by-4.0", "cc-by-2.0", "cc0-1.0", "other"}  # two are not under a licence by name
    assert data.size_categories == ["n<1K"]
    assert "image-restoration" in data.tags


def test_the_card_counts_what_is_in_the_images(folder, recipe):
    card = read_card(folder)
    for kind, keys in card["parameters"].items():
        for found in keys.values():
            assert sum(found["counts"]) == sum(types[kind] for types in card["types"].values())
            assert len(found["edges"]) == len(found["counts"]) + 1
            assert found["edges"][0] <= found["mean"] <= found["edges"][-1]
    assert card["verification"]["reproduced_to_the_byte"] == 40
    assert {photo["sha256"] for photo in card["photos"]} == {p.digest for some in recipe.photos.values() for p in some}
    assert sum(shard["rows"] for shard in card["shards"].values()) == 40


def test_pictures_skipped_are_named_from_their_common_folder_wherever_they_lie(recipe, monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    skipped = {str(tmp_path / "shared" / "b.png"): "too small", "mine/a.png": "unreadable"}
    assert make_card(recipe, skipped)["skipped"] == {"shared/b.png": "too small", "mine/a.png": "unreadable"}


def test_110000_samples_are_27500_of_each_type_in_shards_of_bounded_size():
    counts = split_counts(110_000)
    wanted = corpus_shards.shards(counts)
    assert max(shard.rows for shard in wanted) <= corpus_shards.SHARD_ROWS[1]
    types = Counter()
    for shard in wanted:
        types.update(index % 4 for index in range(shard.first, shard.first + shard.rows))
    assert types == dict.fromkeys(range(4), 27_500)


def test_a_stopped_build_goes_on_and_ends_with_the_same_bytes(tmp_path, folder, recipe, capsys, monkeypatch):
    monkeypatch.setattr(corpus_shards, "SHARD_ROWS", (8, 8))

    def stops_after_two(recipe, wanted, partial):
        yield from corpus_shards.write_here(recipe, wanted[:2], partial)
        (partial / "records" / "torn.tmp").write_bytes(b"half a shard")
        raise KeyboardInterrupt

    build.build(recipe, {}, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        build.build(recipe, {}, tmp_path / "stopped", stops_after_two)
    assert not (tmp_path / "stopped").exists()
    build.build(recipe, {}, tmp_path / "stopped")
    assert "continuing: 16 samples" in capsys.readouterr().out
    assert contents(tmp_path / "stopped") == contents(tmp_path / "undisturbed")
    assert not list(tmp_path.glob(".*partial*"))


def test_what_was_begun_with_another_seed_is_thrown_away(tmp_path, recipe):
    def stops(recipe, wanted, partial):
        yield from corpus_shards.write_here(recipe, wanted[:1], partial)
        raise KeyboardInterrupt

    other = build.plan(config(seed=1))[0]
    with pytest.raises(KeyboardInterrupt):
        build.build(other, {}, tmp_path / "corpus", stops)
    build.build(recipe, {}, tmp_path / "corpus")
    assert read_card(tmp_path / "corpus")["seed"] == 0


def test_two_builds_of_one_folder_are_refused(tmp_path, recipe):
    def builds_again(recipe, wanted, partial):
        build.build(recipe, {}, tmp_path / "corpus")
        yield 0

    with pytest.raises(UserError, match="in use by another job"):
        build.build(recipe, {}, tmp_path / "corpus", builds_again)


def test_a_complete_corpus_is_not_built_again(folder, recipe, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    build.run(config(out=str(folder)))
    assert "complete already" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_corpus_is_replaced_as_a_whole(tmp_path, recipe):
    build.build(build.plan(config(seed=1))[0], {}, tmp_path / "corpus")
    build.build(recipe, {}, tmp_path / "corpus")
    assert manifest.foreign(tmp_path / "corpus") == []
    assert is_complete(tmp_path / "corpus", recipe)


def test_a_missing_shard_is_noticed(tmp_path, recipe):
    build.build(recipe, {}, tmp_path / "corpus")
    next((tmp_path / "corpus").glob("val-*.parquet")).unlink()
    assert not is_complete(tmp_path / "corpus", recipe)
    with pytest.raises(UserError, match="val-.*parquet is missing: copy the corpus here again"):
        read_samples(tmp_path / "corpus", "val", TAXONOMY)


@pytest.mark.engine
def test_ray_builds_the_same_bytes(tmp_path, recipe, folder):
    build.run(config(out=str(tmp_path / "ray")))
    assert contents(tmp_path / "ray") == contents(folder)
