"""A photograph is left as it came where restoring it may do harm."""

import numpy as np
import pytest

import duvlm
from configs import load
from configs.schema import Restore
from envs.corpus.generate import degrade
from envs.taxonomy import TAXONOMY, Degradation, taxonomy
from service.decision import decide, decide_for, expected_gain, forced
from service.reader import Reading

BLUR = TAXONOMY.degradation("blur", {"sigma": 2.0})
SETTINGS = Restore()


@pytest.mark.parametrize(
    ("degradation", "confidence", "gain", "expected"),
    [
        (BLUR, 0.9, 1e-3, ("restored", "")),
        (BLUR, 0.9, 0.0, ("left", "uncertain")),
        (BLUR, SETTINGS.confidence - 0.01, 1e-3, ("left", "uncertain")),
        (Degradation("none", ()), 0.99, 1e-3, ("left", "none")),
        (None, 0.0, 0.0, ("left", "invalid")),
    ],
)
def test_the_rule(degradation, confidence, gain, expected):
    assert decide(degradation, confidence, gain, SETTINGS) == expected


def test_restoring_gains_less_the_less_is_known(photo):
    blurred = degrade(photo, BLUR)
    sure = expected_gain(blurred, BLUR, {"sigma": (1.9, 2.1)}, 0.99)
    assert sure > expected_gain(blurred, BLUR, {"sigma": (1.9, 2.1)}, 0.7) > 0
    assert expected_gain(blurred, BLUR, {"sigma": (1.9, 2.1)}, 0.4) < 0
    hazy = TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": 0.5})
    known, vague = ({"transmission": ends, "atmospheric_light": (0.8, 0.8)} for ends in ((0.48, 0.52), (0.3, 0.95)))
    gains = [expected_gain(degrade(photo, hazy), hazy, intervals, 0.99) for intervals in (known, vague)]
    assert gains[0] > gains[1]


def test_vectors_take_both_ends_of_all_their_numbers(photo):
    values = {"camera": np.eye(3).tolist(), "gamma": 2.0, "gain": 0.2}
    dark = taxonomy(camera=True).degradation("low_light", values)
    flat = np.eye(3).ravel()
    intervals = {"camera": (list(flat - 0.01), list(flat + 0.01)), "gamma": (1.9, 2.1), "gain": (0.19, 0.21)}
    assert expected_gain(degrade(photo, dark), dark, intervals, 0.9) > 0


def test_what_is_left_is_the_picture_itself_unless_it_is_forced(photo):
    config = load("restore", ["reward.prior=gaussian"])
    blurred = degrade(photo, BLUR)
    vague = Reading(BLUR, "", intervals={"sigma": (1.9, 2.1)}, confidence=0.2)
    for reading, reason in ((vague, "uncertain"), (Reading(None, "?", "no_answer"), "invalid")):
        left = duvlm.restore(blurred, reading, prior="gaussian", config=config)
        assert (left.action, left.reason) == ("left", reason)
        assert np.array_equal(left.picture, blurred)
    nothing = duvlm.restore(blurred, Reading(Degradation("none", ()), "[T-none]"), config=config, force=True)
    assert (nothing.action, nothing.reason) == ("left", "none")
    for options in ({"reading": vague, "force": True}, {"reading": BLUR}, {"reading": BLUR.as_dict()}):
        restored = duvlm.restore(blurred, prior="gaussian", config=config, **options)
        assert (restored.action, restored.reason) == ("restored", "")
        assert not np.array_equal(restored.picture, blurred)


def test_what_only_looks_small_is_left(photo):
    small = TAXONOMY.degradation("low_resolution", {"scale": 2})
    reading = Reading(small, "", intervals={"scale": (2, 2)}, confidence=1.0)
    assert decide_for(degrade(photo, small), reading, SETTINGS, 128)[0] == "restored"
    assert decide_for(photo, reading, SETTINGS, 128) == ("left", "uncertain")
    assert decide_for(photo, reading, forced(SETTINGS), 128) == ("restored", "")


def test_who_gives_no_intervals_is_followed(photo):
    assert decide_for(photo, Reading(BLUR, ""), SETTINGS, 128) == ("restored", "")
