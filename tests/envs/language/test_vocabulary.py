"""Every world's answers are few tokens of a policy's vocabulary, and come back unchanged."""

import numpy as np
import pytest

from envs.degradations import sample
from envs.language.answer import Answer, parse, rationale, write
from envs.taxonomy import TAXONOMY, taxonomy
from learner.policy.targets import AnswerLanguage
from learner.policy.tiny import build_tokenizer

WORLDS = {
    "single": TAXONOMY,
    "triples": taxonomy(composites=3),
    "full": taxonomy(camera=True, transmission_grid=4, composites=2),
}


@pytest.mark.parametrize("name", WORLDS)
def test_an_answer_is_one_token_a_piece_and_reads_back(name):
    world = WORLDS[name]
    tokenizer = build_tokenizer(world)
    language = AnswerLanguage(tokenizer, world)
    for kind in world.types:
        truth = sample(world, kind.name, np.random.default_rng(0), 128)
        completion = language.completion(truth)
        pieces = write(truth, world, with_rationale=False).count("[")
        words = rationale(truth).replace("-", " - ").replace(",", " ,").replace(".", " .").split()
        assert len(completion) == pieces + len(words) + 1
        text = tokenizer.decode(completion).removesuffix(tokenizer.eos_token)
        assert parse(text, world) == Answer(truth, rationale(truth))


def test_composites_leave_the_words_of_single_answers_and_the_vocabulary_s_values_alone():
    single, several = (build_tokenizer(WORLDS[name]) for name in ("single", "triples"))
    added = set(several.get_added_vocab())
    assert added == set(single.get_added_vocab())


def test_neighbouring_values_are_targets_within_each_part_of_a_composite():
    world = WORLDS["triples"]
    tokenizer = build_tokenizer(world)
    language = AnswerLanguage(tokenizer, world, smooth=2.0)
    values = {"atmospheric_light": 0.5, "transmission": 0.4, "sigma": 2.0}
    completion = language.completion(world.degradation("haze+blur", values))
    targets = language.targets([completion])
    position = completion.index(tokenizer.convert_tokens_to_ids("[V-2.00]"))
    near = tokenizer.convert_ids_to_tokens(targets.ids[0, position].tolist())
    assert near[len(near) // 2] == "[V-2.00]"
    assert near[0] == "[V-1.94]"
    assert targets.weights[0].sum(-1).allclose(targets.weights.new_ones(len(completion)))
