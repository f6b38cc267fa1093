"""`none`: the answer for a picture with nothing wrong, from the text to the reward, and the worlds that have it."""

import dataclasses

import numpy as np
import pytest

from configs import UserError
from configs.load import load
from configs.schema import WORLDS, World
from envs.corpus.verify import faults
from envs.degradations import NONE, closed_form, degrade
from envs.degradations.common import as_batch
from envs.environment import OfflineEnvironment, OnlineEnvironment, relative_error
from envs.language.answer import Answer, answer_tokens, parse, severities, write
from envs.language.grammar import json_grammar, token_grammar
from envs.language.reading import read_object, read_text
from envs.language.zero_shot import question
from envs.metrics import measure
from envs.taxonomy import TAXONOMY, taxonomy, turns
from envs.types import Completion, Gated, Prompt, RewardQuery, Scored

OPEN = taxonomy(**WORLDS["open"])
NOTHING = OPEN.degradation(NONE, {})
BLUR = OPEN.degradation("blur", {"sigma": 2.0})
ANSWER = "[T-none]"


def completion(degradation):
    return Completion(write(degradation, OPEN), (1,), (-0.1,))


def test_the_open_world_has_the_papers_types_and_more_and_the_papers_is_as_it_was():
    singles = [kind.name for kind in OPEN.singles]
    assert singles == ["haze", "low_light", "blur", "low_resolution", "motion_blur", "noise", "jpeg", "none"]
    assert (TAXONOMY.name, OPEN.name, OPEN.most_parts) == ("du/1", "du/2", 3)
    assert "haze+low_light+jpeg" in OPEN
    assert "motion_blur+low_light+noise" in OPEN
    assert not any({"blur", "motion_blur"} <= set(kind.parts) or NONE in kind.parts[1:] for kind in OPEN.types)
    assert OPEN.degradation("jpeg+noise", {"quality": 30, "noise_level": 9}).type == "noise+jpeg"
    assert NONE in {kind.name for kind in turns(OPEN)}
    assert NONE not in TAXONOMY
    assert taxonomy(types=["blur"]).name == "du/1"
    for wrong in (["blur", "blurr"], ["blur", "blur"]):
        with pytest.raises(UserError, match=r"world\.types: expected different ones of .*none, got blur"):
            taxonomy(types=wrong)


def test_a_world_is_a_preset_that_single_settings_come_after():
    assert load("corpus", []).world == load("corpus", ["world=paper"]).world == World()
    opened = load("corpus", ["world.composites=2", "world=open"]).world
    assert opened == dataclasses.replace(World(), **WORLDS["open"] | {"composites": 2})
    assert load("corpus", ["world=open", "world=paper"]).world == World()
    with pytest.raises(UserError, match="world: expected one of paper, open, got 'opened' .did you mean 'open'"):
        load("corpus", ["world=opened"])


def test_the_text_of_none_is_its_token_alone():
    assert write(NOTHING, OPEN) == write(NOTHING, OPEN, with_rationale=False) == ANSWER
    assert parse(ANSWER, OPEN) == Answer(NOTHING)
    assert ANSWER in answer_tokens(OPEN)
    assert ANSWER not in answer_tokens(TAXONOMY)
    assert "" not in severities(OPEN)
    assert parse("", OPEN).reason == "no_answer"
    assert parse(ANSWER, TAXONOMY).reason == "unknown_type"
    for wrong in ("[T-none][T-blur][K-sigma][V-2.00]", "[T-blur][K-sigma][V-2.00][T-none]", "[T-none][T-none]"):
        assert parse(wrong, OPEN).reason == "wrong_keys"
    assert parse("[T-none][K-sigma][V-2.00]", OPEN).reason == "wrong_keys"


def test_the_object_of_none_has_no_values_and_null_stays_no_answer():
    assert NOTHING.as_dict() == {"type": "none", "values": {}}
    assert read_object(NOTHING.as_dict(), OPEN).degradation == read_text(ANSWER, OPEN).degradation == NOTHING
    assert read_object(None, OPEN).reason == "no_answer"
    assert not read_object({"type": "none", "values": {"sigma": 2}}, OPEN).keys_right


def test_grammars_and_question_know_none():
    numbers = {token: number for number, token in enumerate(answer_tokens(OPEN))}
    grammar = token_grammar(OPEN, numbers.__getitem__, True)
    start = grammar.splitlines()[0]
    assert start.startswith("start: words (type_0 | ")
    assert start.endswith(") | type_7")
    assert "type_7: <[7]>" in grammar.splitlines()
    assert '{\\"type\\": \\"none\\", \\"values\\": {' in json_grammar(OPEN)
    asked = question(OPEN, ["image"])
    assert "A photograph may have been degraded" in asked
    assert "- none: nothing is wrong with the photograph" in asked
    assert "A photograph was degraded by a known physical process." in question(TAXONOMY, ["image"])


def test_a_right_none_earns_the_picture_and_a_wrong_one_is_gated():
    prompt = Prompt("s", None)
    clean = OfflineEnvironment([prompt], {"s": NOTHING}, OPEN).judge
    blurred = OfflineEnvironment([prompt], {"s": BLUR}, OPEN).judge
    assert clean(prompt, completion(NOTHING)) == RewardQuery("s", None, None)
    assert clean(prompt, completion(BLUR)) == blurred(prompt, completion(NOTHING)) == Gated("wrong_type")
    assert blurred(prompt, completion(BLUR)) == RewardQuery("s", None, BLUR)
    assert OnlineEnvironment([prompt], OPEN).judge(prompt, completion(NOTHING)) == RewardQuery("s", None, None)
    value = OfflineEnvironment([prompt], {"s": NOTHING}, OPEN, "value").judge(prompt, completion(NOTHING))
    assert isinstance(value, Scored)
    assert value.reward == 0
    naive = OfflineEnvironment([prompt], {"s": BLUR}, OPEN, "naive").judge
    assert naive(prompt, completion(NOTHING)) == RewardQuery("s", None, None)


def test_none_counts_as_a_type_and_has_no_errors():
    measured = measure([NOTHING, NOTHING, BLUR, BLUR], [NOTHING, BLUR, BLUR, NOTHING], OPEN, resamples=20)
    assert (measured.t_acc, measured.j_acc, measured.t_f1, measured.set_f1) == (0.5, 0.5, 0.5, 0.5)
    assert measured.confusion["none"]["none"] == measured.confusion["none"]["blur"] == 1
    assert measured.keys["sigma"]["samples"] == 2
    assert measured.p_rel == 0.5
    assert np.isnan(measure([NOTHING], [NOTHING], OPEN, resamples=0).p_rel)


def test_a_direction_errs_by_the_shorter_way_round():
    one, other = (OPEN.degradation("motion_blur", {"length": 8, "angle": a}) for a in (2, 176))
    measured = measure([one], [other], OPEN, resamples=0)
    assert measured.keys["angle"]["p_abs"] == pytest.approx(6)
    assert measured.keys["angle"]["p_rel"] == pytest.approx(6 / 90)
    assert relative_error(one, other) == pytest.approx(6 / 90 / 2)
    assert measure([one], [None], OPEN, resamples=0).keys["angle"]["p_rel"] == 1


def test_nothing_leaves_the_picture_as_it_is(photo):
    y = as_batch(photo)
    assert (degrade(y, [NOTHING]) == y).all()
    assert (closed_form(y, [NOTHING]) == y).all()
    assert faults(photo, photo, NOTHING) == ()
