"""What a model that was never trained on the answer tokens is asked, and how its free text is read."""

import json
import time

import pytest

from envs.language import reading, zero_shot
from envs.language.answer import write
from envs.taxonomy import TAXONOMY, taxonomy

BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})
OBJECT = '{"type": "blur", "values": {"sigma": 2.0}}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f"```json\n{OBJECT}\n```",
        f"I see {{soft}} edges, so:\n{OBJECT}\nI hope this helps!",
        f'{{"thoughts": "soft", "answer": {OBJECT}}}',
        f'{OBJECT} or {{"type": "haze", "values": {{}}}}',
        f'{{"type": "blur"}} {OBJECT}',
        '{"values":{"sigma":2},"type":"blur","confidence":0.5}',
        write(BLUR, TAXONOMY),
    ],
)
def test_the_first_object_with_type_and_values_is_the_answer(text):
    assert reading.read_free_text(text, TAXONOMY).degradation == BLUR


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It is blurred, sigma 2.", "no_answer"),
        ("{'type': 'blur', 'values': {'sigma': 2.0}}", "no_answer"),
        ('{"type": "blur", "values": {"sigma": 2.0,}}', "no_answer"),
        ('{"type": "fog", "values": {"sigma": 2.0}}', "unknown_type"),
        ('{"type": "blur", "values": {"scale": 2}}', "wrong_keys"),
        ('{"type": "blur", "values": {"sigma": 99}}', "out_of_range"),
        ('{"type": "blur", "values": {"sigma": "2.0"}}', "out_of_range"),
        ('{"type": "blur", "values": 2}', "no_answer"),
        ("[T-blur][K-scale][V-2]", "wrong_keys"),
        ("x" * 70_000, "too_long"),
        (None, "no_answer"),
    ],
)
def test_what_is_no_answer_is_told_why(text, reason):
    found = reading.read_free_text(text, TAXONOMY)
    assert (found.degradation, found.reason) == (None, reason)


@pytest.mark.parametrize("unit", ["{", '{"a":', '{"a":[', '{"a":1,', '{"":{},', "[", '{"type":"blur","values":{"":'])
def test_the_longest_texts_are_read_in_a_moment(unit):
    text = (unit * reading.MAX_CHARACTERS)[: reading.MAX_CHARACTERS]
    began = time.thread_time()
    assert reading.read_free_text(text, TAXONOMY).degradation is None
    assert time.thread_time() - began < 5  # what looks back at every bracket takes minutes


@pytest.mark.parametrize("world", [TAXONOMY, taxonomy(camera=True, transmission_grid=3), taxonomy(composites=3)])
def test_the_question_is_made_from_the_taxonomy(world):
    asked = zero_shot.question(world, ["image", "edge"])
    assert "picture 1" in asked
    assert "picture 3" not in asked
    for key in world.keys.values():
        low, high, step = (f"{number:.{key.decimals}f}" for number in (key.low, key.high, key.step))
        assert f"{low} to {high} in steps of {step}" in asked
        assert not key.shape or f"shape {list(key.shape)}" in asked


def test_the_example_in_the_question_is_itself_a_valid_answer():
    world = taxonomy(camera=True, transmission_grid=3)
    example = json.loads(zero_shot.question(world, ["image"]).splitlines()[-1])
    assert reading.read_free_text(json.dumps(example), world).degradation is not None
