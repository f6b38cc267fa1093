"""Reading a corpus: any sample in any order, without holding the images in memory."""

import pickle

import numpy as np
import pytest

from configs.schema import Config, World
from envs.corpus import build, generate
from envs.corpus import reader as corpus_split
from envs.corpus.generate import decode, encode
from envs.corpus.reader import read_samples
from envs.world import world_taxonomy

TAXONOMY = world_taxonomy(World())


@pytest.fixture(scope="module")
def recipe():
    return build.plan(Config(count=120, size=48))[0]


@pytest.fixture(scope="module")
def folder(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "corpus"
    build.build(recipe, {}, out)
    return out


def test_samples_come_in_any_order_across_shards_and_row_groups(folder, recipe):
    assert len(list(folder.glob("train-*.parquet"))) == 2
    samples = read_samples(folder, "train", TAXONOMY)
    for index in np.random.default_rng(0).permutation(len(samples))[:40]:
        row = generate.row(recipe, "train", int(index))
        assert samples[index].sample_id == row["sample_id"]
        np.testing.assert_array_equal(samples[index].clean, decode(row["clean"]))
        np.testing.assert_array_equal(samples[index].degraded, decode(row["degraded"]))


def test_a_slice_of_a_slice_still_shows_the_right_images(folder):
    samples = read_samples(folder, "train", TAXONOMY)
    part = samples[60:80][::-3]
    assert [sample.sample_id for sample in part] == samples.sample_ids()[60:80][::-3] == part.sample_ids()
    np.testing.assert_array_equal(part[1].degraded, samples[76].degraded)
    assert part.degradations()[1] == samples[76].degradation


def test_clean_images_are_left_unread_where_nobody_wants_them(folder):
    samples = read_samples(folder, "test", TAXONOMY, clean=False)
    assert {sample.clean for sample in samples} == {None}
    assert {column for _, column in samples._images._cache} == {"degraded"}


def test_no_more_is_held_than_the_cache_admits(folder, monkeypatch):
    monkeypatch.setattr(corpus_split, "_CACHED_BYTES", 200_000)
    samples = read_samples(folder, "train", TAXONOMY)
    held = []
    for _ in samples:
        held.append(samples._images.cached_bytes)
    assert max(held) < 200_000 < sum(len(encode(s.clean)) + len(encode(s.degraded)) for s in samples)


def test_a_split_can_be_sent_to_another_process(folder):
    samples = read_samples(folder, "val", TAXONOMY)
    again = pickle.loads(pickle.dumps(samples[2:]))
    np.testing.assert_array_equal(again[0].degraded, samples[2].degraded)
