"""The grammar admits the answer language and nothing else, as the backend inside vLLM reads it."""

import json
import random

import numpy as np
import pytest

from envs.language import grammar, reading
from envs.language.answer import Answer, parse, write
from envs.taxonomy import taxonomy

EVIDENCE = taxonomy(rationale_style="evidence")
PICTURE = np.zeros((32, 32, 3), np.uint8)
WORLDS = [taxonomy(), taxonomy(camera=True, transmission_grid=3), taxonomy(composites=3), EVIDENCE]


@pytest.fixture(scope="module", params=WORLDS, ids=["du/1", "camera and grid", "composites", "evidence"])
def world(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(world):
    from learner.policy.tiny import build_tokenizer

    return build_tokenizer(world)


def matcher(tokenizer, text):
    import llguidance
    import llguidance.hf

    found = llguidance.LLMatcher(llguidance.hf.from_tokenizer(tokenizer, len(tokenizer)), text)
    assert not found.get_error()
    return found


def token_matcher(tokenizer, world, rationale=True):
    import llguidance

    text = grammar.token_grammar(world, tokenizer.convert_tokens_to_ids, rationale)
    return matcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(text))


def degradations(world, count=20):
    rng = np.random.default_rng(0)
    for kind in world.types * (count // len(world.types)):
        draw = {key.name: rng.uniform(key.low, key.high, key.shape).tolist() for key in kind.keys}
        yield world.degradation(kind.name, draw)


def test_every_answer_is_admitted_token_by_token(world, tokenizer):
    found = token_matcher(tokenizer, world)
    for truth in degradations(world):
        tokens = tokenizer.encode(write(truth, world, picture=PICTURE), add_special_tokens=False)
        assert found.validate_tokens(tokens) == len(tokens)
        assert len(tokens) <= grammar.longest(world)


@pytest.mark.parametrize(
    "text",
    ["It is blur.", "Severe blur degradation.[T-blur][K-scale]", "Severe blur degradation.[T-blur][K-sigma][V-0.00]"],
)
def test_what_is_no_answer_is_cut_short(world, tokenizer, text):
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert token_matcher(tokenizer, world).validate_tokens(tokens) < len(tokens)


@pytest.mark.parametrize("rationale", [True, False])
def test_any_walk_through_the_grammar_ends_in_an_answer(world, tokenizer, rationale):
    import llguidance.numpy

    rng, mask = random.Random(0), llguidance.numpy.allocate_token_bitmask(1, len(tokenizer))
    for _ in range(10):
        found, tokens = token_matcher(tokenizer, world, rationale), []
        while not found.is_stopped():
            llguidance.numpy.fill_next_token_bitmask(found, mask)
            bits = np.unpackbits(mask[0].view(np.uint8), bitorder="little")
            tokens.append(rng.choice(np.flatnonzero(bits).tolist()))
            found.consume_token(tokens[-1])
        text = tokenizer.decode([token for token in tokens if token != tokenizer.eos_token_id])
        assert isinstance(parse(text, world), Answer), text
        assert bool(parse(text, world).rationale) == rationale
        assert len(tokens) <= grammar.longest(world)


def test_the_json_of_every_answer_is_admitted_and_nothing_else(world, tokenizer):
    import llguidance

    found = matcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(grammar.json_grammar(world)))
    for truth in degradations(world):
        text = written(truth, world)
        tokens = tokenizer.encode(text, add_special_tokens=False)
        found.reset()
        assert found.validate_tokens(tokens) == len(tokens)
        assert reading.read_free_text(text, world).degradation == truth
        assert len(text) <= grammar.longest(world)
    other = tokenizer.encode('{"type": "fog"', add_special_tokens=False)
    found.reset()
    assert found.validate_tokens(other) < len(other)


def written(truth, world) -> str:
    """JSON with as many decimals as the grid has."""

    def number(key, value):
        if isinstance(value, list):
            return "[" + ", ".join(number(key, item) for item in value) + "]"
        return f"{value:.{key.decimals}f}"

    values = truth.as_dict()["values"]
    inside = ", ".join(f"{json.dumps(name)}: {number(world.keys[name], value)}" for name, value in values.items())
    return f'{{"type": {json.dumps(truth.type)}, "values": {{{inside}}}}}'
