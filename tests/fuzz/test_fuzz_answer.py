"""Whatever a model writes, the readers return an answer or a reason, soon and in little memory (`make fuzz` for long).

Under coverage guidance, with `pip install atheris`: `python tests/fuzz/test_fuzz_answer.py -max_total_time=300`.
"""

import json
import math
import sys
import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from envs.degradations.base import flatten
from envs.language import reading
from envs.language.answer import MAX_CHARACTERS, REASONS, Answer, Invalid, answer_tokens, parse, write
from envs.language.reading import Reading, read_free_text, read_object, read_text
from envs.taxonomy import TAXONOMY, taxonomy

SECONDS_PER_CHARACTER, SECONDS = 5e-6, 0.1
"""A text of n characters may take SECONDS + n * SECONDS_PER_CHARACTER of the processor: some ten times what a slow
one takes, but far less than work that grows with the square of the length."""
BYTES_PER_CHARACTER, BYTES = 400, 200_000
WORLDS = (taxonomy(), taxonomy(camera=True, transmission_grid=4), taxonomy(composites=3))
ALPHABET = "[]{}TKV-.,:\"'0123456789eE+ \n\t\\ntrulfas\u0661\u00a0\ud800\x00aé漢"
SCRAPS = ["[T-", "[K-", "[V-", "]", "[V--", "[V-1e9]", "[V-.5]", "[T-fog]", "{", "}", '{"', '{"type": ', '"values": {']
SCRAPS += ["```json\n", "```", "NaN", "-Infinity", "1e999", "9" * 400, "null", "true", '"sigma": ', "}}", ", "]
SCRAPS += ['{"type": "blur", "values": {"sigma": ', "[" * 40]
TOKENS = {world: answer_tokens(world) for world in WORLDS}


@st.composite
def degradations(draw, world):
    """Values over the whole ranges of the keys."""
    kind = draw(st.sampled_from(world.types))

    def value(key, shape):
        return [value(key, shape[1:]) for _ in range(shape[0])] if shape else draw(st.floats(key.low, key.high))

    return world.degradation(kind.name, {key.name: value(key, key.shape) for key in kind.keys})


@st.composite
def right_answers(draw, world):
    """Answer tokens, or JSON with something around it."""
    truth = draw(degradations(world))
    if draw(st.booleans()):
        return write(truth, world, draw(st.booleans()))
    around = [("", ""), ("So: ", "."), ("```json\n", "\n```"), ('{"answer": ', "}"), ("{x} ", " {")]
    return json.dumps(truth.as_dict()).join(draw(st.sampled_from(around)))


@st.composite
def near_answers(draw, world):
    """A type, known or not, and its keys, each with as many numbers as it has or about as many, right or wrong."""
    kind = draw(st.sampled_from(world.singles))
    text = draw(st.sampled_from([f"[T-{kind.name}]"] * 4 + ["[T-fog]"]))
    for key in kind.keys:
        number = st.sampled_from([key.token(key.low)] * 3 + ["[V-99]", "[V-x]", "[V-1e1]"])
        count = draw(st.sampled_from([key.size] * 4 + [key.size - 1, key.size + 1]))
        text += f"[K-{key.name}]" + draw(number if draw(st.booleans()) else st.just(key.token(key.high))) * count
    return text


def scraps(world):
    return st.sampled_from(TOKENS[world]) | st.sampled_from(SCRAPS) | st.sampled_from(ALPHABET)


@st.composite
def mutated_answers(draw, world):
    """Right answers with a few pieces put in, doubled or cut out."""
    text = draw(right_answers(world))
    for _ in range(draw(st.integers(1, 5))):
        at, cut = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 1, 1, 3, 20]))
        piece = draw(scraps(world) | st.text(ALPHABET, max_size=3) | st.just(text[at : at + 30]))
        text = text[:at] + piece + text[at + cut :]
    return text


@st.composite
def repeated_scraps(draw, world):
    """A few pieces over and over, up to and past the longest text that is looked at."""
    longest = draw(st.sampled_from([MAX_CHARACTERS, MAX_CHARACTERS + 1, reading.MAX_CHARACTERS + 10]))
    unit = "".join(draw(st.lists(scraps(world), min_size=1, max_size=3)))
    return draw(scraps(world)) + (unit * (longest // len(unit) + 1))[: draw(st.integers(0, longest))]


def texts(world):
    noise = st.text(ALPHABET, max_size=200) | st.text(st.characters(), max_size=60)
    joined = st.lists(scraps(world), max_size=30).map("".join)
    return (
        right_answers(world) | near_answers(world) | mutated_answers(world) | joined | noise | repeated_scraps(world)
    )


QUESTIONS = st.sampled_from(WORLDS).flatmap(lambda world: st.tuples(texts(world), st.just(world)))
PLAIN = [None, True, 0, -1, 2.5, 1e308, math.nan, math.inf, 10**400, "", "2.0", "blur", b"blur", 3j]
THINGS = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["type", "values", "sigma", 0, None, "a", (1,)]), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def objects(draw):
    """Near answers with values of every kind in every place, and things that are none, some nested very deep."""
    world = draw(st.sampled_from(WORLDS))
    thing = draw(degradations(world)).as_dict()
    deep: list = []
    for _ in range(draw(st.sampled_from([0, 0, 30, 990, 5000]))):
        deep = [deep]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(["thing", "values"]))
        inside = thing if place == "thing" else thing.get("values")
        if isinstance(inside, dict):
            inside[draw(st.sampled_from(["type", "values", "sigma", 1, None, ("a",)]))] = draw(THINGS | st.just(deep))
    return draw(st.just(thing) | THINGS | st.just(deep)), world


def check_reading(found, world):
    assert isinstance(found, Reading), found
    assert found.type is None or found.type in world, found
    assert bool(found.reason) == (found.degradation is None), found
    if found.degradation:
        assert found.type == found.degradation.type
        for name, value in found.degradation.values:
            assert all(world.keys[name].snap(number) == number for number in flatten(value)), (name, value)


def check(text, world, parser=parse):
    """What the readers make of a text: `answer` or a reason. Raises where one breaks its promise."""
    found = parser(text, world)
    assert isinstance(found, (Answer, Invalid)), found
    if isinstance(found, Answer):
        assert parse(write(found.degradation, world), world).degradation == found.degradation
    else:
        assert found.reason in REASONS, found.reason
        assert len(found.detail) < 1000, len(found.detail)
    for read in (read_text, read_free_text):
        check_reading(read(text, world), world)
    return "answer" if isinstance(found, Answer) else found.reason


def check_time(text, world, parser=parse):
    allowed, seconds = SECONDS + len(text) * SECONDS_PER_CHARACTER, math.inf
    for _ in range(2):  # once more: garbage of earlier texts may have been collected meanwhile
        began = time.process_time()  # not of the clock: others may have the core
        check(text, world, parser)
        if (seconds := time.process_time() - began) <= allowed:
            return
    raise AssertionError(f"{seconds:.3f} s for {len(text)} characters")


@given(QUESTIONS)
def test_any_text_gives_an_answer_or_a_reason_soon(question):
    text, world = question
    check_time(text, world)
    with suppress(ValueError, RecursionError):
        check_reading(read_object(json.loads(text), world), world)


@given(objects())
def test_any_object_gives_a_reading(question):
    check_reading(read_object(*question), question[1])


@given(st.sampled_from(WORLDS).flatmap(lambda world: st.tuples(repeated_scraps(world), st.just(world))))
def test_no_text_takes_much_memory(question):
    tracemalloc.start()
    check(*question)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= BYTES + BYTES_PER_CHARACTER * len(question[0])


@pytest.mark.parametrize("outcome", ["answer", *REASONS])
def test_the_texts_are_not_all_hopeless_and_meet_every_reason(outcome):
    limits = settings(max_examples=5000, phases=[Phase.generate])
    find(QUESTIONS, lambda question: check(*question) == outcome, settings=limits)


def run_with(parser, question=QUESTIONS):
    @settings(max_examples=2000, phases=[Phase.generate])
    @given(question)
    def run(question):
        check_time(*question, parser)

    run()


def test_a_reader_that_raises_is_caught():
    def fragile(text, world):
        if "[V-.5]" in text:
            raise ValueError("fragile")
        return Invalid("no_answer")

    with pytest.raises(ValueError, match="fragile"):
        run_with(fragile)


def test_a_reader_of_quadratic_time_is_caught():
    def slow(text, world):
        sum(1 for _ in range(min(len(text), 3000) ** 2))
        return Invalid("no_answer")

    with pytest.raises(AssertionError, match="characters"):
        run_with(slow)


@pytest.mark.parametrize("values", [{1: 2.0, "sigma": 2.0}, {"sigma": 2.0, None: 1}, {("a",): 1}])
def test_keys_that_are_no_names_are_wrong_keys(values):
    assert read_object({"type": "blur", "values": values}, TAXONOMY).reason == "wrong_keys"


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    fuzzed = settings(database=None)(test_any_text_gives_an_answer_or_a_reason_soon)
    atheris.Setup(sys.argv, fuzzed.hypothesis.fuzz_one_input)
    atheris.Fuzz()
