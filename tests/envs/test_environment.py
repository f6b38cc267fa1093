"""The two worlds: which prompts come when, and what the gate lets through."""

from itertools import islice

import pytest

from envs.environment import OfflineEnvironment, OnlineEnvironment
from envs.samples import Completion, Gated, Prompt, RewardQuery
from envs.taxonomy import TAXONOMY

BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})
PROMPTS = [Prompt(f"s{i}", sample=i) for i in range(7)]


def said(text):
    return Completion(text, (1,), (-0.1,))


@pytest.fixture
def offline():
    return OfflineEnvironment(PROMPTS, {p.sample_id: BLUR for p in PROMPTS}, TAXONOMY, penalty=-1.0)


def test_every_epoch_shows_every_prompt_once_in_a_new_order(offline):
    stream = [p.sample_id for p in islice(offline.prompts(seed=1), 21)]
    epochs = [stream[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == [p.sample_id for p in PROMPTS] for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20])
def test_a_cursor_continues_exactly_where_the_stream_was_left(offline, start):
    whole = [p.sample_id for p in islice(offline.prompts(seed=5), 30)]
    assert [p.sample_id for p in islice(offline.prompts(seed=5, start=start), 30 - start)] == whole[start:]


def test_a_right_type_with_any_values_deserves_a_restoration(offline):
    query = offline.judge(PROMPTS[0], said("Mild blur degradation.[T-blur][K-sigma][V-9.00]"))
    assert isinstance(query, RewardQuery)
    assert query.degradation["sigma"] == 9.0
    assert query.sample == 0


def test_offline_a_wrong_type_is_gated_and_online_it_is_not(offline):
    answer = said("[T-low_resolution][K-scale][V-2]")
    assert offline.judge(PROMPTS[0], answer) == Gated("wrong_type", -1.0)
    assert isinstance(OnlineEnvironment(PROMPTS, TAXONOMY).judge(PROMPTS[0], answer), RewardQuery)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "no_answer"), ("x" * 100_000, "too_long"), ("[T-blur][K-sigma][V-99.00]", "out_of_range")],
)
def test_what_is_no_answer_is_gated_with_its_reason(offline, text, reason):
    assert offline.judge(PROMPTS[0], said(text)) == Gated(reason, -1.0)


def test_equal_answers_to_one_image_are_one_query(offline):
    first, second = (said(f"{words}[T-blur][K-sigma][V-2.00]") for words in ("Mild.", "Severe."))
    one, other = offline.judge(PROMPTS[0], first), offline.judge(PROMPTS[0], second)
    assert one == other
    assert hash(one) == hash(other)
    assert one.key == other.key
    assert one.key != offline.judge(PROMPTS[1], first).key


def test_a_world_without_prompts_is_refused():
    with pytest.raises(ValueError, match="at least one prompt"):
        OnlineEnvironment([], TAXONOMY)
