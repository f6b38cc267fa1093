"""Evidence in words: what the views of a picture show, said before the answer (`world.rationale_style=evidence`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from corpora import written

from configs.schema import World
from envs.corpus.generate import Recipe, as_row, decode, degrade, generate_sample
from envs.corpus.reader import read_samples
from envs.language.answer import Answer, parse, severities, write
from envs.language.evidence import FINDINGS, LIMITS, describe, sentences
from envs.language.vocabulary import AnswerTokens
from envs.taxonomy import TAXONOMY, taxonomy
from envs.world import FILE, check_world, template_hash, world_of, write_world

EVIDENCE = taxonomy(rationale_style="evidence")
VALUES = {
    "haze": {"atmospheric_light": 0.8, "transmission": 0.4},
    "low_light": {"gamma": 2.5, "gain": 0.08},
    "blur": {"sigma": 4.0},
    "low_resolution": {"scale": 3},
}


def degraded(photo, name):
    return degrade(photo, EVIDENCE.degradation(name, VALUES[name]))


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("haze", "dark channel high, levels narrow"),
        ("low_light", "levels dark"),
        ("blur", "Spectrum falls early, edges soft"),
        ("low_resolution", "edges stepped"),
    ],
)
def test_each_type_leaves_its_sign(photo, name, sign):
    assert sign in describe(degraded(photo, name))
    assert sign not in describe(photo)


def test_the_words_tell_the_types_of_a_corpus_apart(tmp_path_factory):
    """The table of docs/learning.md on a small corpus: the sign of a type is rare in all others."""
    samples = read_samples(written(tmp_path_factory.mktemp("corpus"), 400), "test", TAXONOMY)
    signs = {"haze": "high", "low_light": "dark.", "low_resolution": "stepped", "blur": "early midway"}
    said = [(sample.degradation.type, describe(sample.degraded)) for sample in samples]
    for name, sign in signs.items():
        found = [(kind == name, any(word in words for word in sign.split())) for kind, words in said]
        assert np.mean([seen for own, seen in found if own]) > 0.4
        assert np.mean([seen for own, seen in found if not own]) < 0.1


def test_whatever_the_picture_it_is_one_of_the_sentences():
    rng = np.random.default_rng(0)
    flat, noise = np.full((64, 48, 3), 200, np.uint8), rng.integers(0, 256, (48, 64, 3), np.uint8)
    for picture in (flat, flat * 0, noise, noise // 16):
        assert describe(picture) in sentences()
    assert len(set(sentences())) == 3 ** len(FINDINGS)


def test_an_answer_says_it_first_and_is_read_back(photo):
    truth = EVIDENCE.degradation("blur", VALUES["blur"])
    picture = degraded(photo, "blur")
    text = write(truth, EVIDENCE, picture=picture)
    assert text == describe(picture) + "[T-blur][K-sigma][V-4.00]"
    assert parse(text, EVIDENCE) == Answer(truth, describe(picture))
    assert write(truth, EVIDENCE, with_rationale=False) == "[T-blur][K-sigma][V-4.00]"


def test_nothing_is_said_of_a_picture_with_nothing_wrong(photo):
    world = taxonomy(rationale_style="evidence", types=["blur", "none"])
    assert write(world.degradation("none", {}), world, picture=photo) == "[T-none]"


def test_every_word_is_one_token_of_a_small_policy():
    from learner.policy.targets import AnswerLanguage
    from learner.policy.tiny import build_tokenizer

    tokenizer = build_tokenizer(EVIDENCE)
    for sentence in sentences():
        ids = tokenizer.encode(sentence, add_special_tokens=False)
        words = sentence.replace(",", " ,").replace(".", " .").split()
        assert [token.strip("Ġ") for token in tokenizer.convert_ids_to_tokens(ids)] == words
    truth, dark = EVIDENCE.degradation("blur", VALUES["blur"]), np.zeros((64, 64, 3), np.uint8)
    ids = AnswerLanguage(tokenizer, EVIDENCE).completion(truth, dark)
    assert tokenizer.decode(ids) == write(truth, EVIDENCE, picture=dark) + tokenizer.eos_token


def test_the_severity_is_no_opening_of_such_answers():
    from learner.policy.tiny import build_tokenizer

    tokenizer = build_tokenizer(TAXONOMY)  # knows the words of severity
    assert len(AnswerTokens.of(tokenizer, TAXONOMY).severities) == 3
    assert AnswerTokens.of(tokenizer, EVIDENCE).severities == ()


def test_a_corpus_holds_what_its_own_pictures_show(tmp_path):
    from configs.schema import Config
    from envs.corpus import build

    recipe = build.plan(Config(count=80, size=48, world=World(rationale_style="evidence")))[0]
    plain = build.plan(Config(count=80, size=48))[0]
    assert isinstance(recipe, Recipe)
    assert recipe.fingerprint() != plain.fingerprint()
    row = as_row(recipe, "test", generate_sample(recipe, "test", 0))
    assert row["answer"].startswith(describe(decode(row["degraded"])))


def test_the_hash_of_the_template_covers_style_words_and_limits(tmp_path, monkeypatch):
    plain, evidence = World(), World(rationale_style="evidence")
    before = template_hash(tmp_path, evidence)
    assert before != template_hash(tmp_path, plain)
    untouched = template_hash(tmp_path, plain)
    monkeypatch.setitem(LIMITS, "dark", 60)
    assert template_hash(tmp_path, evidence) != before
    assert template_hash(tmp_path, plain) == untouched


def test_a_policy_that_lacks_the_field_says_the_severity(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    write_world(tmp_path, World())
    card = json.loads((tmp_path / FILE).read_text())
    assert card.pop("rationale_style") == "severity"
    (tmp_path / FILE).write_text(json.dumps(card))
    assert world_of(tmp_path) == World()
    check_world(tmp_path, World())
    assert severities(TAXONOMY)[0].startswith("Mild")
