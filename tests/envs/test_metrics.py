"""The measures of Section 5.1 against numbers worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.language.reading import read_object, read_text
from envs.metrics import differences, measure
from envs.taxonomy import TAXONOMY, taxonomy


def blur(sigma):
    return TAXONOMY.degradation("blur", {"sigma": sigma})


def haze(light, transmission):
    return TAXONOMY.degradation("haze", {"atmospheric_light": light, "transmission": transmission})


TRUTHS = [blur(2.0), blur(4.0), haze(0.5, 0.4), haze(0.8, 0.2), haze(0.9, 0.5)]
ANSWERS = [
    read_object({"type": "blur", "values": {"sigma": 2.5}}, TAXONOMY),  # off by .5, a quarter
    read_object({"type": "haze", "values": {"atmospheric_light": 0.5, "transmission": 0.5}}, TAXONOMY),
    read_text("Mild haze. [T-haze][K-transmission][V-0.30][K-atmospheric_light][V-0.60]", TAXONOMY),
    read_text("[T-haze][K-transmission][V-0.30]", TAXONOMY),  # the type alone is right
    read_text("I cannot tell.", TAXONOMY),
]


def test_the_measures_of_five_answers_are_those_worked_out_by_hand():
    found = measure(TRUTHS, ANSWERS, TAXONOMY)
    assert found.samples == 5
    assert found.t_acc == pytest.approx(3 / 5)
    assert found.j_acc == pytest.approx(2 / 5)
    # blur: 1 hit, 2 true, 1 said -> 2/3; haze: 2 hits, 3 true, 3 said -> 2/3
    assert found.t_f1 == pytest.approx(2 / 3)
    assert found.keys["sigma"]["p_abs"] == pytest.approx((0.5 + 4.0) / 2)
    assert found.keys["sigma"]["p_rel"] == pytest.approx((0.25 + 1) / 2)
    assert found.keys["atmospheric_light"]["p_abs"] == pytest.approx((0.1 + 0.8 + 0.9) / 3)
    assert found.keys["atmospheric_light"]["p_rel"] == pytest.approx((0.2 + 1 + 1) / 3)
    assert found.keys["transmission"]["p_abs"] == pytest.approx((0.1 + 0.2 + 0.5) / 3)
    assert found.keys["transmission"]["p_rel"] == pytest.approx((0.25 + 1 + 1) / 3)
    assert found.p_abs == pytest.approx((2.25 + 0.6 + 0.8 / 3) / 3)
    assert found.p_rel == pytest.approx((0.625 + 2.2 / 3 + 0.75) / 3)
    others = {"low_light": 0, "low_resolution": 0, "other": 0, "no answer": 0}
    assert found.confusion["blur"] == {"haze": 1, "blur": 1, **others}
    assert found.confusion["haze"]["no answer"] == 1


def test_a_key_is_averaged_over_the_samples_that_have_it():
    found = measure([blur(2.0), *[haze(0.5, 0.5)] * 9], [blur(3.0), *[haze(0.5, 0.5)] * 9], TAXONOMY)
    assert found.keys["sigma"]["p_abs"] == pytest.approx(1.0)
    assert found.keys["sigma"]["samples"] == 1
    assert found.p_abs == pytest.approx(1 / 3)


def test_a_grid_key_is_relative_to_its_sum():
    world = taxonomy(transmission_grid=2)
    truth = world.degradation("haze", {"atmospheric_light": 0.5, "transmission": [[0.1, 0.2], [0.3, 0.4]]})
    answer = world.degradation("haze", {"atmospheric_light": 0.5, "transmission": [[0.2, 0.2], [0.3, 0.2]]})
    found = measure([truth], [answer], world)
    assert found.keys["transmission"]["p_abs"] == pytest.approx(0.3 / 4)
    assert found.keys["transmission"]["p_rel"] == pytest.approx(0.3 / 1.0)


def test_perfect_answers_have_no_error_and_no_uncertainty():
    found = measure(TRUTHS, TRUTHS, TAXONOMY)
    assert (found.t_acc, found.t_f1, found.j_acc, found.p_abs, found.p_rel) == (1, 1, 1, 0, 0)
    assert found.intervals["p_rel"] == (0, 0)


def test_no_answer_is_a_zero_prediction():
    found = measure(TRUTHS, [None] * len(TRUTHS), TAXONOMY)
    assert (found.t_acc, found.t_f1, found.j_acc, found.p_rel) == (0, 0, 0, 1)
    assert found.keys["sigma"]["p_abs"] == pytest.approx(3.0)


def test_a_value_out_of_range_keeps_the_joint_score_and_is_penalised():
    found = measure([blur(2.0)], [read_text("[T-blur][K-sigma][V-99]", TAXONOMY)], TAXONOMY)
    assert (found.t_acc, found.j_acc, found.p_abs, found.p_rel) == (1, 1, 2.0, 1)


def test_intervals_hold_the_value_and_shrink_with_samples():
    few, many = measure(TRUTHS, ANSWERS, TAXONOMY), measure(TRUTHS * 40, ANSWERS * 40, TAXONOMY)
    for found in (few, many):
        low, high = found.intervals["t_acc"]
        assert low <= found.t_acc <= high
    width = [found.intervals["sigma.p_rel"][1] - found.intervals["sigma.p_rel"][0] for found in (few, many)]
    assert width[1] < width[0] / 2
    assert measure(TRUTHS, ANSWERS, TAXONOMY, seed=0).intervals == few.intervals


def test_a_difference_of_equal_answers_is_certainly_nothing():
    assert differences(TRUTHS, ANSWERS, ANSWERS, TAXONOMY)["p_rel"] == (0, 0, 0)
    gain = differences(TRUTHS, ANSWERS, TRUTHS, TAXONOMY)["t_acc"]
    assert gain[0] == pytest.approx(2 / 5)
    assert gain[1] <= gain[0] <= gain[2]


def test_one_answer_a_sample_is_demanded():
    with pytest.raises(ValueError, match="one answer for each"):
        measure(TRUTHS, ANSWERS[:2], TAXONOMY)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sigma", "", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(answer=JSON | st.fixed_dictionaries({"type": JSON | st.just("blur"), "values": JSON}), text=st.text())
def test_anything_can_be_read(answer, text):
    for reading in (read_object(answer, TAXONOMY), read_text(text, TAXONOMY), read_text(answer, TAXONOMY)):
        assert (reading.degradation is None) == bool(reading.reason)
