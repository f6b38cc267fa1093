"""Which answers of a group are fitted, and what becomes of the others."""

import numpy as np
import pytest

from envs.taxonomy import TAXONOMY, taxonomy
from envs.types import Completion, Failed, Gated, Group, Prompt, Scored
from learner.fitted.answers import PLAIN, fit_group, fitted_share
from learner.rl.advantages import JudgedGroup, trajectories


def blur(sigma):
    return f"Severe blur degradation.[T-blur][K-sigma][V-{sigma:.2f}]"


def reward(sigma):
    return Scored(-((np.log(sigma / 2.1)) ** 2) / 100)


def judged(*answers):
    """Of (text, verdict) pairs."""
    completions = tuple(Completion(text, (1, 2), (-0.1, -0.2)) for text, _ in answers)
    return JudgedGroup(Group(Prompt("a", "picture"), completions, 0), tuple(verdict for _, verdict in answers))


SPREAD = [(blur(sigma), reward(sigma)) for sigma in (1.8, 2.0, 2.3, 2.6)]


def fitted(*answers, loss="grpo", world=TAXONOMY, gates=True):
    return fit_group(judged(*answers), world, loss, gates)


def test_answers_of_one_type_share_a_curve_in_units_of_their_advantages():
    group = fitted(*SPREAD)
    assert group.reasons == ("",) * 4
    assert len({id(curve) for curve in group.curves}) == 1
    at = [150, 170, 200, 230]
    advantages = [t.advantage for t in trajectories([judged(*SPREAD)], "grpo")]
    above_the_gate = group.curves[0].last(())[at]
    assert np.diff(above_the_gate) == pytest.approx(np.diff(advantages), abs=1e-3)


def test_a_token_that_is_no_value_counts_as_what_the_gate_turns_away():
    """Worth is above a gated answer's advantage: an advantage is the worth and that."""
    item = judged(*SPREAD, ("nothing", Gated("no_answer")))
    *scored, gated = [t.advantage for t in trajectories([item], "grpo")]
    curve = fit_group(item, TAXONOMY, "grpo").curves[0].last(())
    assert curve[[150, 170, 200, 230]] + gated == pytest.approx(scored, abs=2e-3)
    without = fit_group(judged(*SPREAD), TAXONOMY, "grpo", gates=False).curves[0].last(())
    assert without[[150, 170, 200, 230]] == pytest.approx(
        [t.advantage for t in trajectories([judged(*SPREAD)], "grpo")], abs=2e-3
    )


def test_without_division_by_the_spread_the_gate_costs_one():
    item = judged(*SPREAD, ("nothing", Gated("no_answer")))
    *scored, gated = [t.advantage for t in trajectories([item], "dr_grpo")]
    curve = fit_group(item, TAXONOMY, "dr_grpo").curves[0].last(())
    assert curve[[150, 170, 200, 230]] + gated == pytest.approx(scored, abs=1e-5)
    assert curve[170] == pytest.approx(1 + reward(2.0).reward, abs=1e-5)


def test_a_failed_answer_moves_no_curve():
    with_failure = fitted(*SPREAD, (blur(5.0), Failed("lost")))
    assert with_failure.reasons == ("", "", "", "", "failed")
    assert with_failure.curves[4] is None
    assert with_failure.curves[0].last(()) == pytest.approx(fitted(*SPREAD).curves[0].last(()))


def test_what_does_not_fit_stays_plain_and_says_why():
    scale = [(f"[T-low_resolution][K-scale][V-{n}]", Scored(-n / 10)) for n in (2, 3, 4)]
    assert fitted(*scale).reasons == ("keys",) * 3
    assert fitted(*SPREAD[:2], SPREAD[1]).reasons == ("few",) * 3
    assert fitted(*[(text, Scored(-0.2)) for text, _ in SPREAD]).reasons == ("flat",) * 4
    assert fitted(*SPREAD, ("[T-blur][K-sigma][V-2.5]", Scored(-0.1))).reasons[-1] == "wording"
    pairs = taxonomy(composites=2)
    both = "[T-haze][K-atmospheric_light][V-0.80][K-transmission][V-0.40][T-blur][K-sigma][V-2.50]"
    assert fitted(*SPREAD, (both, Scored(-0.1)), world=pairs).reasons == ("", "", "", "", "composite")
    assert {"keys", "few", "flat", "wording", "composite", "failed", "gated"} == set(PLAIN)


def test_a_camera_or_a_map_keeps_plain_grpo():
    camera = taxonomy(camera=True)
    matrix = "".join(f"[V-{number:.2f}]" for number in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    texts = [f"[T-low_light][K-camera]{matrix}[K-gamma][V-{gamma:.2f}][K-gain][V-0.050]" for gamma in (2, 2.5, 3)]
    assert fitted(*[(text, Scored(-i)) for i, text in enumerate(texts)], world=camera).reasons == ("keys",) * 3


def test_two_types_in_a_group_have_a_curve_each():
    light = [
        (f"[T-low_light][K-gamma][V-{gamma:.2f}][K-gain][V-{gain:.3f}]", Scored(-gamma * gain))
        for gamma, gain in ((2, 0.05), (2.2, 0.07), (2.6, 0.06))
    ]
    group = fitted(*SPREAD[:3], *light)
    assert group.reasons == ("",) * 6
    assert [curve.keys for curve in group.curves] == [("sigma",)] * 3 + [("gamma", "gain")] * 3


def test_the_metrics_count_what_fell_back():
    share = fitted_share([fitted(*SPREAD), fitted(*SPREAD[:2], ("x", Gated("no_answer")), (blur(3), Failed("x")))])
    assert share == {"share": 0.5, "plain": {"few": 0.25, "gated": 0.125, "failed": 0.125}}


def test_trajectories_carry_the_curves_of_those_that_have_one():
    item = judged(*SPREAD, ("x", Gated("no_answer")))
    group = fit_group(item, TAXONOMY, "grpo")
    taken = trajectories([item], "grpo", [group.curves])
    assert [t.curve is None for t in taken] == [False] * 4 + [True]
    assert [t.curve for t in trajectories([item], "grpo")] == [None] * 5
