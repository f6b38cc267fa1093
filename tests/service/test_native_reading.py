"""A photograph larger than the policy's world is read at its own scale, from several views together."""

import asyncio
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from skimage import data

import duvlm
from configs import load
from envs.corpus.generate import degrade
from envs.language.answer import Invalid, parse
from envs.language.evidence import describe, sentences
from envs.taxonomy import TAXONOMY, taxonomy, world_taxonomy
from envs.world import write_world
from learner.policy.tiny import build_tiny_policy
from service.reading.engine import UNLISTED, EngineQuestions
from service.reading.joint import choose, key_sources, pool_types, type_sources
from service.reading.questions import Next
from service.reading.views import View, pieces, views_of

SMALL = np.zeros((8, 8, 3), np.uint8)
VIEWS = [View(SMALL, 4.0), *[View(SMALL, 1.0, whole=False)] * 4]
OPEN = world_taxonomy(load("restore", ["world=open"]).world)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[:420])


@pytest.fixture(scope="module")
def reader():
    return duvlm.Reader(config=load("restore", ["world=paper", "rollout.decoding=median"]))


def test_the_pieces_are_those_with_most_gradient_on_the_blocks_of_a_file():
    photo = np.full((300, 400, 3), 90, np.uint8)
    photo[130:250, 260:380] = np.random.default_rng(0).integers(0, 256, (120, 120, 3))
    found = pieces(photo, 128)
    assert len(found) == 4
    energies = [float(np.abs(np.diff(piece.astype(float), axis=1)).mean()) for piece in found]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] > 10
    for piece in pieces(np.arange(256, dtype=np.uint8).repeat(256 * 3).reshape(256, 256, 3), 128):
        assert piece[0, 0, 0] % 16 == 0


def test_a_photograph_no_larger_than_the_world_is_one_view():
    for shape in ((128, 128, 3), (128, 500, 3), (60, 400, 3)):
        assert [view.whole for view in views_of(np.zeros(shape, np.uint8), 128)] == [True]
    assert [view.whole for view in views_of(np.zeros((129, 400, 3), np.uint8), 128)] == [True, *[False] * 3]
    reduced = views_of(np.zeros((600, 700, 3), np.uint8), 128, reduction=2)
    assert [view.ratio for view in reduced] == [600 / 128, *[2] * 4]


def test_tokens_that_only_the_model_has_leave_the_rows_of_drafts_equally_long():
    listed = [{2: -1.0, 5: -2.0}, {2: -3.0, 11: -0.5}]  # the tokenizer ends at 9, the model's rows at 11

    async def ask(shown, draft, params):
        logprobs = {token: SimpleNamespace(logprob=value) for token, value in listed[draft[0]].items()}
        return SimpleNamespace(outputs=[SimpleNamespace(logprobs=[logprobs])])

    words = SimpleNamespace(size=9, tokens=SimpleNamespace(values={"sigma": [2, 5]}))
    questions = EngineQuestions(SimpleNamespace(ask=ask, _config=load("restore")), words, None)
    questions._shown = [[]]
    (rows,) = asyncio.run(questions.reply(Next([0], [[[0], [1]]])))
    assert rows.shape == (2, 10)
    assert rows[:, 2].tolist() == [-1, -3]
    assert rows[1, 5] == UNLISTED


def test_numbers_are_read_where_they_show():
    everyone = range(5)
    assert key_sources(OPEN.keys["sigma"], VIEWS, everyone) == [1, 2, 3, 4]
    assert key_sources(OPEN.keys["noise_level"], VIEWS, everyone) == [1, 2, 3, 4]
    assert key_sources(OPEN.keys["gamma"], VIEWS, everyone) == [0, 1, 2, 3, 4]
    assert key_sources(OPEN.keys["gamma"], VIEWS, [1, 3]) == [1, 3]
    grid = taxonomy(transmission_grid=4).keys["transmission"]
    assert key_sources(grid, VIEWS, everyone) == [0]
    assert type_sources(OPEN["haze"], VIEWS) == type_sources(OPEN["none"], VIEWS) == [0, 1, 2, 3, 4]
    assert type_sources(OPEN["haze+jpeg"], VIEWS) == [1, 2, 3, 4]
    assert type_sources(OPEN["blur"], VIEWS[:1]) == [0]


def test_what_shows_in_the_pieces_alone_is_not_denied_by_the_whole():
    logs = {"blur": np.log([0.001, 0.9, 0.95, 0.9, 0.9]), "none": np.log([0.99, 0.05, 0.04, 0.09, 0.08])}
    sources = {name: type_sources(OPEN[name], VIEWS) for name in logs}
    chances = pool_types(logs, sources)
    assert chances["blur"] > 0.8
    assert sum(chances.values()) <= 1
    assert pool_types({"blur": np.log([0.7])}, {"blur": [0]})["blur"] == pytest.approx(0.7)


def test_views_that_disagree_are_not_sure_of_the_type():
    logs = {"haze": np.log([0.9, 0.1, 0.9, 0.1, 0.5]), "low_light": np.log([0.1, 0.9, 0.1, 0.9, 0.5])}
    assert max(pool_types(logs, {name: range(5) for name in logs}).values()) < 0.6


@pytest.mark.parametrize("decoding", ["argmax", "median", "mean", "sample"])
def test_a_number_that_is_certain_is_chosen_however(decoding):
    key = TAXONOMY.keys["sigma"]
    density = np.zeros(key.bins)
    density[170] = 1
    assert choose(key, density, decoding, np.random.default_rng(0)) == 2.0


@pytest.mark.parametrize("sigma", [2.0, 6.0])
def test_a_blur_of_a_large_photograph_is_read_in_its_own_pixels(reader, large, sigma):
    degraded = degrade(large, TAXONOMY.degradation("blur", {"sigma": sigma}))
    reading = reader(degraded)
    assert reading.degradation["sigma"] == pytest.approx(sigma, rel=0.2)
    low, high = reading.intervals["sigma"]
    assert low <= sigma <= high
    assert reading == reader(degraded)


def test_cells_of_pixels_that_a_reduced_picture_hides_are_seen(reader, large):
    reading = reader(degrade(large, TAXONOMY.degradation("low_resolution", {"scale": 3})))
    assert (reading.degradation.type, reading.degradation["scale"]) == ("low_resolution", 3)
    assert reading.confidence > 0.5


def test_a_policy_that_names_evidence_reads_large_photographs_too(large, tmp_path):
    """A policy with random weights: what the whole photograph shows comes first, whatever it concludes."""
    config = load("restore", ["world=paper", "world.rationale_style=evidence", "rollout.grammar=true"])
    folder = build_tiny_policy(tmp_path / "policy", world_taxonomy(config.world), seed=1)
    write_world(folder, config.world)
    reader = duvlm.Reader(folder, config)
    reading = reader(cv2.resize(large, (128, 128)))
    assert reading.text.partition("[")[0] in sentences()
    reading = reader(large)
    assert reading.text.startswith(describe(views_of(large, 128)[0].picture) + "[T-")
    assert set(reading.intervals) == {key for key, _ in reading.degradation.values}


def test_a_policy_of_the_open_world_reads_in_the_right_form(large, tmp_path):
    """A policy with random weights, held to well-formed answers: types of several parts come up too."""
    config = load("restore", ["world=open", "rollout.grammar=true", "rollout.decoding=sample"])
    world = OPEN
    folder = build_tiny_policy(tmp_path / "policy", world, seed=1)
    write_world(folder, config.world)
    reader = duvlm.Reader(folder, config)
    for photo in (cv2.resize(large, (128, 128)), large):
        reading = reader(photo)
        assert not isinstance(parse(reading.text, world), Invalid)
        assert set(reading.intervals) == {key for key, _ in reading.degradation.values}
        assert 0 < reading.confidence <= 1
