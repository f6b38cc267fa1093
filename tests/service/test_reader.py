"""One photograph is read in this process, as the engines read it."""

import cv2
import numpy as np
import pytest
from PIL import Image

import duvlm
from configs import UserError, load
from envs.corpus.generate import degrade
from envs.language.answer import Invalid, parse
from envs.language.posterior import quantile
from envs.taxonomy import TAXONOMY
from envs.types import Sample
from envs.world import write_world
from learner.policy.tiny import build_tiny_policy
from service.reader import INTERVAL

SIGMA = 2.0
DEGRADATIONS = [
    TAXONOMY.degradation(kind, values)
    for kind, values in (
        ("blur", {"sigma": 1.0}),
        ("blur", {"sigma": 4.0}),
        ("haze", {"atmospheric_light": 0.8, "transmission": 0.4}),
        ("low_light", {"gamma": 2.5, "gain": 0.08}),
        ("low_resolution", {"scale": 3}),
    )
]


@pytest.fixture(scope="module")
def reader():
    return duvlm.Reader(config=load("restore", ["world=paper"]))


@pytest.fixture(scope="module")
def blurred(photo) -> np.ndarray:
    return cv2.GaussianBlur(photo, (0, 0), SIGMA, borderType=cv2.BORDER_REFLECT)


def test_a_blur_is_named_with_its_size_and_how_sure_that_is(reader, blurred):
    reading = reader(blurred)
    assert reading.degradation.type == "blur"
    assert abs(reading.degradation["sigma"] - SIGMA) < 0.6
    low, high = reading.intervals["sigma"]
    assert low <= reading.degradation["sigma"] <= high
    assert 0.9 < reading.confidence <= 1


def test_pixels_are_those_of_the_photograph(reader, blurred):
    large = cv2.resize(blurred, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    reading, small = reader(large), reader(blurred)
    assert reading.degradation["sigma"] == pytest.approx(3 * small.degradation["sigma"], rel=0.2)
    assert reading.intervals["sigma"][1] == pytest.approx(3 * small.intervals["sigma"][1], rel=0.2)


def test_paths_bytes_pictures_and_arrays_read_alike(reader, blurred, tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(blurred).save(file)
    readings = reader.batch([file, str(file), file.read_bytes(), Image.open(file), blurred])
    assert len({reading.text for reading in readings}) == 1


@pytest.mark.parametrize("image", [np.zeros((8, 8)), np.zeros((8, 8, 3), np.float32), "nowhere.png", b"nothing"])
def test_what_is_no_picture_is_refused(reader, image):
    with pytest.raises(UserError, match="expected a picture"):
        reader(image)


def test_a_grammar_makes_every_answer_well_formed(blurred, tmp_path):
    """A policy with random weights, which answers nothing by itself."""
    config = load("restore", ["world=paper", "rollout.grammar=true"])
    folder = build_tiny_policy(tmp_path / "policy", TAXONOMY, seed=1)
    write_world(folder, config.world)
    reader = duvlm.Reader(folder, config)
    for _ in range(2):
        assert not isinstance(parse(reader(blurred).text, TAXONOMY), Invalid)


def test_the_api_offers_what_it_says_and_nothing_else():
    assert callable(duvlm.restore)
    assert callable(duvlm.degrade)
    with pytest.raises(AttributeError, match="it offers Reader"):
        duvlm.nothing  # noqa: B018


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_reader_and_engine_answer_alike(photo, ray_cluster):
    from benchmarks.quality.sources import policy as policies
    config = load("evaluate", ["world=paper", "rollout.decoding=median"])
    pictures = [degrade(photo, each) for each in DEGRADATIONS]
    samples = [Sample(str(i), str(i), "test", picture) for i, picture in enumerate(pictures)]
    answers = policies.ask(config, policies.find("shipped", config), samples, TAXONOMY)
    reader = duvlm.Reader(config=config)
    for sample in samples:
        reading = reader(sample.degraded)
        answer = answers[sample.sample_id]
        assert reading.text == answer.given
        for posterior in answer.posteriors:
            key = TAXONOMY.keys[posterior.key]
            ends = tuple(quantile(key, posterior.density, share) for share in INTERVAL)
            assert reading.intervals[posterior.key] == pytest.approx(ends, abs=key.step)
