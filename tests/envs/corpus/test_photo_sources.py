"""Several sources of photographs in one corpus: each has its share, and small pictures are enlarged."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from layouts import SIZES, make_bdd100k, make_celeba, make_nuscenes, place
from PIL import Image

from configs import UserError
from configs.schema import Config, World
from envs.corpus import build, generate
from envs.corpus.datasets import Photo, parse_sources
from envs.corpus.photos import Interleaving, scan_photos
from envs.corpus.reader import read_card
from envs.corpus.unlabelled import Photographs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three folders in the layouts of the paper's datasets."""
    root = tmp_path_factory.mktemp("datasets")
    make_celeba(root / "faces", count=8)
    make_bdd100k(root / "drives", count=5, first=8)
    make_nuscenes(root / "streets", scenes=4, first=13)
    return root


@pytest.fixture(scope="module")
def spec(root):
    return f"celeba:{root / 'faces'},bdd100k:{root / 'drives'},nuscenes:{root / 'streets'}"


def shares_of(recipe, split):
    """{source: share of the samples of a split}, of as many samples as the corpus has."""
    turns = -(-recipe.counts[split] // 4)
    found = Counter(recipe.photo(split, turn).origin for turn in range(turns))
    return {origin: count / turns for origin, count in found.items()}


def test_three_sources_have_equal_shares_of_every_split(spec):
    recipe, skipped = build.plan(Config(photos=spec, count=1200, world=World(size=256)))
    assert skipped == {}
    for split in ("train", "val", "test"):
        shares = shares_of(recipe, split)
        assert set(shares) == {"faces", "drives", "streets"}
        assert all(abs(share - 1 / 3) <= 0.02 for share in shares.values())


def test_shares_are_those_that_were_asked_for(root):
    spec = f"celeba:{root / 'faces'}@2,bdd100k:{root / 'drives'}@1"
    recipe, _ = build.plan(Config(photos=spec, count=1200, size=48))
    assert shares_of(recipe, "train") == pytest.approx({"faces": 2 / 3, "drives": 1 / 3}, abs=0.02)
    even, _ = build.plan(Config(photos=spec.replace("@2", ""), count=1200, size=48))
    assert even.fingerprint() != recipe.fingerprint()


def test_the_card_says_what_each_source_has_given(root, tmp_path):
    spec = f"celeba:{root / 'faces'}@2,bdd100k:{root / 'drives'}"
    recipe, skipped = build.plan(Config(photos=spec, count=72, size=48))
    build.build(recipe, skipped, tmp_path / "corpus")
    card = read_card(tmp_path / "corpus")
    assert card["shares"] == {"faces": 2, "drives": 1}
    for split, sources in card["sources"].items():
        assert sum(sources.values()) == card["counts"][split]
        rows = [generate.row(recipe, split, index) for index in range(card["counts"][split])]
        found = Counter(row["photo_id"].split("/")[0] for row in rows)
        assert sources == {name: found[name] for name in ("faces", "drives")}
    text = (tmp_path / "corpus" / "README.md").read_text()
    assert "| split | faces | drives |" in text
    assert f"| train | {card['sources']['train']['faces']} (" in text


def test_every_photo_of_a_source_has_its_turn_before_one_comes_again():
    counts = {"a": 5, "b": 9}
    photos = [Photo(f"{name}/{n}", None, origin=name) for name, count in counts.items() for n in range(count)]
    turns = Interleaving(photos, {"a": 1, "b": 3}, (0, 0))
    shown = [turns.photo(turn) for turn in range(4 * 15)]
    for origin, count in counts.items():
        names = [photo.photo_id for photo in shown if photo.origin == origin]
        assert len(set(names[:count])) == len(set(names[count : 2 * count])) == count
        assert names[:count] != names[count : 2 * count]
    assert shown == [Interleaving(photos, {"a": 1, "b": 3}, (0, 0)).photo(turn) for turn in range(4 * 15)]
    assert turns.photo(7, skipped=1).origin == turns.photo(7).origin
    other = Interleaving(photos, {"a": 1, "b": 3}, (1, 0))
    assert shown != [other.photo(turn) for turn in range(4 * 15)]


def test_a_source_without_a_split_leaves_it_to_the_others():
    photos = [Photo("a/0", None, origin="a")]
    turns = Interleaving(photos, {"a": 1, "b": 5}, (0, 0))
    assert {turns.photo(turn).origin for turn in range(10)} == {"a"}


def test_a_source_of_which_nothing_is_of_use_is_the_users_error(root, tmp_path):
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(tmp_path / "icon.png")
    with pytest.raises(UserError, match="no photograph of"):
        build.plan(Config(photos=f"celeba:{root / 'faces'},{tmp_path}", count=40, size=48))


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "two", ""])
def test_a_share_is_a_whole_number(share):
    with pytest.raises(UserError, match="share after @"):
        parse_sources(f"bundled@{share},somewhere")


def test_one_source_keeps_its_order_whatever_its_share():
    plain, _ = build.plan(Config(count=40, size=48))
    shared, _ = build.plan(Config(photos="bundled@3", count=40, size=48))
    assert shared.fingerprint() == plain.fingerprint()


def test_faces_of_178_px_are_enlarged_to_the_256_of_the_paper_and_the_card_says_so(root, tmp_path):
    recipe, skipped = build.plan(Config(photos=f"celeba:{root / 'faces'}", count=12, world=World(size=256)))
    assert skipped == {}
    assert {photo.enlargement for some in recipe.photos.values() for photo in some} == {256 / SIZES["celeba"][0]}
    build.build(recipe, skipped, tmp_path / "corpus")
    card = read_card(tmp_path / "corpus")
    assert {photo["enlarged"] for photo in card["photos"]} == {1.438}
    text = (tmp_path / "corpus" / "README.md").read_text()
    assert "8 photographs are smaller than that and were enlarged, by 1.44" in text
    row = generate.row(recipe, "train", 0)
    assert generate.decode(row["clean"]).shape == (256, 256, 3)
    assert generate.reproduces(row, generate.world_taxonomy(recipe.world))


def test_small_pictures_of_a_plain_folder_are_enlarged_where_it_is_asked_for(tmp_path):
    for number, width in enumerate((60, 90, 300)):
        place(number, tmp_path / f"{width}.jpg", (width, width))
    photos, skipped = scan_photos(str(tmp_path), min_side=256)
    assert [photo.photo_id for photo in photos] == ["300"]
    assert len(skipped) == 2
    photos, skipped = scan_photos(str(tmp_path), min_side=256, enlarge=True)
    assert {photo.photo_id: round(photo.enlargement, 2) for photo in photos} == {"300": 1.0, "90": 2.84}
    assert "60 px" in skipped[str(tmp_path / "60.jpg")]  # more than fourfold
    recipe, _ = build.plan(Config(photos=str(tmp_path), enlarge=True, count=12, size=256))
    assert sum(map(len, recipe.photos.values())) == 2


def test_online_reinforcement_takes_small_faces_too(root):
    samples = Photographs(f"celeba:{root / 'faces'}", 256)
    assert len(samples) == 8
    assert samples[0].degraded.shape == (256, 256, 3)


def test_a_later_setting_of_the_world_leaves_fingerprints_as_they_are():
    @dataclass
    class Later(World):
        later: bool = False

    recipe, _ = build.plan(Config(count=40, size=48))
    assert replace(recipe, world=Later()).fingerprint() == recipe.fingerprint()
    assert replace(recipe, world=Later(later=True)).fingerprint() != recipe.fingerprint()
