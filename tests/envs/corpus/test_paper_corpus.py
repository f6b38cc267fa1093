"""The corpus of the paper in small: CelebA, BDD100K and nuScenes in their layouts and sizes, haze by depth."""

from collections import Counter

import cv2
import numpy as np
import pytest
from layouts import make_bdd100k, make_celeba, make_nuscenes
from PIL import Image
from scipy.stats import spearmanr

from configs.schema import Config, World
from envs.corpus import build
from envs.corpus.augment import refreshed
from envs.corpus.generate import check_sample
from envs.corpus.reader import read_card, read_samples
from envs.degradations.haze import THINNEST
from envs.pictures import read_picture
from envs.world import world_taxonomy

WORLD = World(size=256, depth="file", camera=True, transmission_grid=8)
FARTHEST = 4.0


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """The red of each picture grows with its depth, so that a crop says by itself how far everything in it is."""
    root = tmp_path_factory.mktemp("datasets")
    make_celeba(root / "faces", count=8)
    make_bdd100k(root / "drives", count=5, first=8)
    make_nuscenes(root / "streets", scenes=4, first=13)
    for number, file in enumerate(sorted(root.rglob("*.jpg"))):
        picture = read_picture(file)
        height, width = picture.shape[:2]
        ramp = np.linspace(0, 1, height)[::-1, None] * 0.8 + np.linspace(0, 0.2, width)[:: (-1) ** number]
        picture[..., 0] = np.round(255 * ramp)
        Image.fromarray(picture).save(file, quality=100, subsampling=0)  # red is kept to a level or two
        depth = 1 + (FARTHEST - 1) * ramp
        cv2.imwrite(str(file.with_suffix(".depth.png")), np.round(depth / FARTHEST * 65535).astype(np.uint16))
    return f"celeba:{root / 'faces'},bdd100k:{root / 'drives'},nuscenes:{root / 'streets'}"


def check_corpus(spec, count, tolerance, tmp_path):
    """Shares of the sources, haze that follows depth, and the same bytes again."""
    config = Config(photos=spec, count=count, world=WORLD)
    recipe, skipped = build.plan(config)
    assert skipped == {}
    first, again = tmp_path / "first", tmp_path / "again"
    for folder in (first, again):
        build.build(build.plan(config)[0], skipped, folder)
    assert {file.name: file.read_bytes() for file in first.iterdir()} == {
        file.name: file.read_bytes() for file in again.iterdir()
    }
    card = read_card(first)
    train = card["sources"]["train"]
    assert all(abs(number / card["counts"]["train"] - 1 / 3) <= tolerance for number in train.values()), train
    hazy = Counter()
    for split in card["counts"]:
        for sample in read_samples(first, split, world_taxonomy(WORLD), transmission=True):
            assert check_sample(sample)
            if sample.degradation.type == "haze":
                assert_haze_follows(sample)
                hazy[sample.photo_id.split("/")[0]] += 1
    assert set(hazy) == {"faces", "drives", "streets"}
    return first


def assert_haze_follows(sample) -> None:
    """-log t follows what the picture says of its depth, where air does not hide everything."""
    depth, t = sample.clean[..., 0].astype(float), sample.transmission
    seen = t > THINNEST + 1e-3
    hidden = depth[~seen]
    assert spearmanr(-np.log(t[seen]), depth[seen]).statistic > 0.99
    assert not hidden.size or np.median(hidden) >= np.quantile(depth[seen], 0.99)


def test_a_small_corpus_of_three_sources_follows_their_depth(spec, tmp_path):
    folder = check_corpus(spec, 72, 0.06, tmp_path)
    samples = read_samples(folder, "train", world_taxonomy(WORLD), transmission=True)
    haze = next(sample for sample in samples if sample.degradation.type == "haze")
    assert next(sample for sample in samples if sample.degradation.type != "haze").transmission is None
    for epoch in range(4):  # values are drawn anew, some mirrored, and depth stays what was measured
        new = refreshed(haze, world_taxonomy(WORLD), 0, epoch, 3, draws_depth=True)
        assert check_sample(new)
        assert new.degradation != haze.degradation
        old = -np.log(haze.transmission), -np.log(new.transmission)
        mirrored = np.corrcoef(old[0].ravel(), old[1].ravel())[0, 1]
        straight = np.corrcoef(old[0][:, ::-1].ravel(), old[1].ravel())[0, 1]
        seen = (haze.transmission > THINNEST + 1e-3).mean()
        assert max(mirrored, straight) > 0.95 or seen < 0.7


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_1200_samples_of_three_sources(spec, tmp_path):
    check_corpus(spec, 1200, 0.02, tmp_path)
