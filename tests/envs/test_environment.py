"""The two worlds: which prompts come when, and what the gate lets through."""

from itertools import islice

import pytest

from envs.environment import MixedEnvironment, OfflineEnvironment, OnlineEnvironment, relative_error
from envs.taxonomy import TAXONOMY
from envs.types import Completion, Gated, Prompt, RewardQuery, Scored

BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})
PROMPTS = [Prompt(f"s{i}", sample=i) for i in range(7)]


def said(text):
    return Completion(text, (1,), (-0.1,))


@pytest.fixture
def offline():
    return OfflineEnvironment(PROMPTS, {p.sample_id: BLUR for p in PROMPTS}, TAXONOMY)


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


WRONG_TYPE, NEAR = said("[T-low_resolution][K-scale][V-2]"), said("Mild.[T-blur][K-sigma][V-2.50]")


def judged_by(strategy, completion):
    truth = {p.sample_id: BLUR for p in PROMPTS}
    return OfflineEnvironment(PROMPTS, truth, TAXONOMY, strategy=strategy).judge(PROMPTS[0], completion)


def test_the_naive_strategy_restores_a_wrong_type_with_the_wrong_operator():
    query = judged_by("naive", WRONG_TYPE)
    assert isinstance(query, RewardQuery)
    assert query.degradation.type == "low_resolution"


def test_the_naive_strategy_restores_nothing_where_nothing_can_be_read():
    for answer in ("blur", "[T-blur][K-sigma][V-99.00]", "[T-haze][K-sigma][V-2.00]"):
        query = judged_by("naive", said(answer))
        assert isinstance(query, RewardQuery)
        assert query.degradation is None


def test_the_value_strategy_restores_nothing_and_gates_a_wrong_type():
    assert judged_by("value", NEAR) == Scored(-0.25, {"relative_error": 0.25})
    assert judged_by("value", said("[T-blur][K-sigma][V-2.00]")).reward == 0
    assert judged_by("value", WRONG_TYPE) == Gated("wrong_type", -1.0)
    assert judged_by("value", said("[T-blur][K-sigma][V-12.00]")).reward == -1  # five times the truth is no worse


def test_the_relative_error_is_the_mean_over_keys_of_what_each_misses():
    truth = TAXONOMY.degradation("low_light", {"gamma": 2.0, "gain": 0.1})
    answer = TAXONOMY.degradation("low_light", {"gamma": 3.0, "gain": 0.09})
    assert relative_error(truth, answer) == pytest.approx((0.5 + 0.1) / 2)
    assert relative_error(truth, truth) == 0


def test_the_online_environment_holds_no_truth_to_read():
    online, offline = OnlineEnvironment(PROMPTS, TAXONOMY), OfflineEnvironment(PROMPTS, {}, TAXONOMY)
    assert "_truth" in vars(offline)
    assert "_truth" not in vars(online)
    assert not any(isinstance(value, dict) for value in vars(online).values())


def mixed(share):
    labelled = [Prompt(f"labelled/{i}", sample=i) for i in range(5)]
    truth = {prompt.sample_id: BLUR for prompt in labelled}
    offline = OfflineEnvironment(labelled, truth, TAXONOMY)
    return MixedEnvironment(OnlineEnvironment(PROMPTS, TAXONOMY), offline, set(truth), share)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9, 1.0])
def test_a_mixed_stream_has_its_share_of_labelled_prompts_at_every_length(share):
    ids = [prompt.sample_id for prompt in islice(mixed(share).prompts(seed=3), 40)]
    labelled = [sample_id.startswith("labelled") for sample_id in ids]
    assert all(abs(sum(labelled[:n]) - share * n) < 1 for n in range(1, 41))
    if share == 0.5:
        assert len(set(ids[:10])) == 10  # each of the streams goes through its own epochs


@pytest.mark.parametrize("start", [0, 1, 6, 7, 23])
def test_a_cursor_continues_a_mixed_stream_exactly(start):
    whole = [p.sample_id for p in islice(mixed(0.3).prompts(seed=5), 30)]
    assert [p.sample_id for p in islice(mixed(0.3).prompts(seed=5, start=start), 30 - start)] == whole[start:]


def test_in_a_mixed_stream_only_labelled_prompts_know_their_type():
    environment = mixed(0.5)
    assert environment.judge(Prompt("labelled/1", 1), WRONG_TYPE) == Gated("wrong_type", -1.0)
    assert isinstance(environment.judge(PROMPTS[1], WRONG_TYPE), RewardQuery)
