"""The taxonomy: what is on the grid, what is refused, what its fingerprint tells apart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.taxonomy import TAXONOMY, Key, taxonomy

WORLDS = [
    taxonomy(),
    taxonomy(camera=True, transmission_grid=8),
    *(taxonomy(step_scale=s) for s in (0.5, 2.5, 5, 10, 100)),
]
KEYS = [key for world in WORLDS for key in world.keys.values()]


def test_du1_is_the_paper_s_four_types_and_seven_keys():
    assert [kind.name for kind in TAXONOMY.types] == ["haze", "low_light", "blur", "low_resolution"]
    assert len(taxonomy(camera=True).keys) == 7
    assert TAXONOMY.name == "du/1"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.name}-{key.step:g}")
def test_grid_numbers_are_distinct_in_range_and_their_own_nearest(key):
    grid = list(key.grid())
    assert len(grid) == len(set(grid)) == key.bins
    assert all(key.low <= number <= key.high for number in grid)
    assert all(key.snap(number) == number for number in grid)
    assert len({key.token(number) for number in grid}) == key.bins


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.name}-{key.step:g}")
@given(share=st.floats(-0.5, 1.5))
def test_snapping_moves_a_number_in_range_by_half_a_step_at_most(key, share):
    top = key.low + (key.bins - 1) * key.step
    number = min(max(key.low + share * (key.high - key.low), key.low), top)
    snapped = key.snap(key.low + share * (key.high - key.low))
    assert key.low <= snapped <= key.high
    assert abs(snapped - number) <= key.step / 2 + 1e-6
    assert key.snap(snapped) == snapped


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.name}-{key.step:g}")
def test_a_value_token_reads_back_as_the_number_it_was_made_of(key):
    assert all(key.snap(float(key.token(number)[3:-1])) == number for number in key.grid())


@pytest.mark.parametrize(
    ("type_name", "values", "word"),
    [
        ("fog", {}, "unknown degradation type"),
        ("blur", {}, "has the keys"),
        ("blur", {"sigma": 2.0, "scale": 2}, "has the keys"),
        ("blur", {"sigma": "2"}, "is a number"),
        ("blur", {"sigma": True}, "is a number"),
        ("blur", {"sigma": math.nan}, "is a number"),
        ("blur", {"sigma": [2.0]}, "is a number"),
        ("blur", {"sigma": 0.29}, "lies in"),
        ("low_resolution", {"scale": 9}, "lies in"),
    ],
)
def test_what_is_outside_the_taxonomy_is_refused_in_one_sentence(type_name, values, word):
    with pytest.raises(ValueError, match=word) as error:
        TAXONOMY.degradation(type_name, values)
    assert "\n" not in str(error.value)


def test_arrays_have_their_shape_and_are_hashable_after_checking():
    world = taxonomy(camera=True, transmission_grid=2)
    haze = world.degradation("haze", {"atmospheric_light": 0.7, "transmission": [[0.1, 0.2], [0.3, 0.404]]})
    assert haze["transmission"] == ((0.1, 0.2), (0.3, 0.4))
    assert haze.as_dict()["values"]["transmission"] == [[0.1, 0.2], [0.3, 0.4]]
    assert hash(haze) == hash(world.degradation("haze", haze.as_dict()["values"]))
    with pytest.raises(ValueError, match="shape"):
        world.degradation("haze", {"atmospheric_light": 0.7, "transmission": [[0.1, 0.2]]})


def test_equal_grid_points_are_one_degradation_whatever_was_written():
    assert TAXONOMY.degradation("blur", {"sigma": 2.001}) == TAXONOMY.degradation("blur", {"sigma": 2})
    first, second = {"gamma": 2.0, "gain": 0.1}, {"gain": 0.1, "gamma": 2.0}
    assert TAXONOMY.degradation("low_light", first) == TAXONOMY.degradation("low_light", second)


def test_the_fingerprint_changes_with_anything_that_changes_an_answer():
    prints = [world.fingerprint() for world in WORLDS]
    assert len(set(prints)) == len(prints)
    assert taxonomy().fingerprint() == TAXONOMY.fingerprint()
    assert taxonomy(transmission_grid=2).fingerprint() != taxonomy(transmission_grid=3).fingerprint()


def test_a_step_that_does_not_divide_the_range_never_leaves_it():
    key = Key("k", "1", 0.3, 12.0, 1.0)
    assert key.snap(12.0) == 11.3
    assert key.bins == 12
