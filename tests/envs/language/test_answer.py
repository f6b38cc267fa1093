"""The answer language: what is written reads back, and whatever is read gives an answer or a reason."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.language.answer import MAX_CHARACTERS, REASONS, Answer, Invalid, answer_tokens, parse, rationale, write
from envs.taxonomy import TAXONOMY, taxonomy

WORLDS = [TAXONOMY, taxonomy(camera=True, transmission_grid=4), taxonomy(step_scale=5)]
PIECES = answer_tokens(TAXONOMY)[:12] + [
    "[V-2.00]",
    "[V-4]",
    "[V-0.500]",
    "[T-fog]",
    "[V-x]",
    " ",
    "[",
    "]",
    "so",
    "[V--1]",
]


@st.composite
def degradations(draw, world):
    kind = draw(st.sampled_from(world.types))

    def value(key, shape):
        if not shape:
            return draw(st.floats(key.low, key.high))
        return [value(key, shape[1:]) for _ in range(shape[0])]

    return world.degradation(kind.name, {key.name: value(key, key.shape) for key in kind.keys})


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.fingerprint()[:4])
@given(data=st.data())
def test_a_written_answer_reads_back_unchanged(world, data):
    truth = data.draw(degradations(world))
    for with_rationale in (True, False):
        found = parse(write(truth, world, with_rationale), world)
        assert isinstance(found, Answer), found
        assert found.degradation == truth
        assert found.rationale == (rationale(truth) if with_rationale else "")


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.fingerprint()[:4])
def test_a_written_answer_is_made_of_answer_tokens_only(world):
    known = set(answer_tokens(world))
    _written_in(known, world)


@given(data=st.data())
def _written_in(known, world, data):
    text = write(data.draw(degradations(world)), world, with_rationale=False)
    assert all(f"[{part}" in known for part in text.split("[")[1:])


def _is_total(text, world=TAXONOMY):
    found = parse(text, world)
    if isinstance(found, Invalid):
        assert found.reason in REASONS
        assert len(found.detail) < 400
    else:
        assert parse(write(found.degradation, world), world).degradation == found.degradation


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: raw.decode("latin-1"))))
def test_any_text_gives_an_answer_or_a_reason(text):
    _is_total(text)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_string_of_tokens_gives_an_answer_or_a_reason(text):
    _is_total(text)


@given(data=st.data())
def test_a_mutated_answer_gives_an_answer_or_a_reason(data):
    text = write(data.draw(degradations(TAXONOMY)), TAXONOMY)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text = (
            text[:at] + data.draw(st.text(alphabet="[]TKV-.0129ea \n\u0661", max_size=3)) + text[at + cut :]
        )
    _is_total(text)


@pytest.mark.parametrize("thing", [None, 3, b"[T-blur]", ["[T-blur]"], {"type": "blur"}])
def test_what_is_no_text_is_no_answer(thing):
    assert parse(thing, TAXONOMY).reason == "no_answer"


@pytest.mark.parametrize("unit", ["x", "[T-blur]", "[", "[V-1]", "[K-sigma][V-2.00]", "[[[[T-", "\x00"])
def test_a_hundred_thousand_characters_are_refused_at_once(unit):
    began = time.perf_counter()
    assert parse((unit * 100_000)[:100_000], TAXONOMY).reason == "too_long"
    assert not isinstance(parse((unit * MAX_CHARACTERS)[:MAX_CHARACTERS], TAXONOMY), Answer)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_answer"),
        ("It is blur.", "no_answer"),
        ("[K-sigma][V-2.00]", "no_answer"),
        ("[T-fog][K-sigma][V-2.00]", "unknown_type"),
        ("[T-blur]", "wrong_keys"),
        ("[T-blur][K-scale][V-2]", "wrong_keys"),
        ("[T-blur][K-sigma][V-2.00][K-sigma][V-2.00]", "wrong_keys"),
        ("[T-blur][V-2.00]", "wrong_keys"),
        ("[T-blur][K-sigma][V-2.00][T-haze]", "wrong_keys"),
        ("[T-blur][K-sigma]", "wrong_shape"),
        ("[T-blur][K-sigma][V-2.00][V-2.00]", "wrong_shape"),
        ("[T-blur][K-sigma][V-two]", "bad_number"),
        ("[T-blur][K-sigma][V-nan]", "bad_number"),
        ("[T-blur][K-sigma][V-1e1]", "bad_number"),
        (
            "[T-blur][K-sigma][V-\u0662.00]",
            "bad_number",
        ),  # digits of another script are not the answer language
        ("[T-blur][K-sigma][V-13.00]", "out_of_range"),
        ("[T-blur][K-sigma][V-2.00] I think", "trailing_text"),
        ("[T-blur] or [K-sigma][V-2.00]", "trailing_text"),
    ],
)
def test_a_wrong_answer_is_told_why(text, reason):
    assert parse(text, TAXONOMY).reason == reason


def test_keys_come_in_any_order_and_numbers_are_snapped():
    found = parse("Dark. [T-low_light] [K-gain][V-0.1004]\n[K-gamma][V-2.5]", TAXONOMY)
    assert found.degradation == TAXONOMY.degradation("low_light", {"gamma": 2.5, "gain": 0.1})
    assert found.rationale == "Dark."


def test_answer_tokens_are_unique():
    for world in WORLDS:
        tokens = answer_tokens(world)
        assert len(tokens) == len(set(tokens))
