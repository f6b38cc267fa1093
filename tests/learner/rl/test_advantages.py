import numpy as np
import pytest

from envs.types import Completion, Failed, Gated, Group, Prompt, Scored
from learner.rl.advantages import JudgedGroup, has_zero_advantage, measures, saturated, trajectories

COMPLETION = Completion("", (1, 2), (-0.1, -0.2))


def judged(*verdicts, version=0):
    return JudgedGroup(Group(Prompt("a", "picture"), (COMPLETION,) * len(verdicts), version), verdicts)


def test_a_failed_completion_reaches_neither_the_learner_nor_the_others_advantage():
    with_failure = trajectories([judged(Scored(-0.1), Failed("lost"), Scored(-0.3))], loss="dr_grpo")
    without = trajectories([judged(Scored(-0.1), Scored(-0.3))], loss="dr_grpo")
    assert with_failure == without
    assert [t.advantage for t in without] == pytest.approx([0.1, -0.1])


def test_a_gated_answer_counts_with_its_penalty():
    taken = trajectories([judged(Scored(-0.1), Gated("wrong_type"))], loss="grpo")
    assert [t.advantage for t in taken] == pytest.approx([0.5**0.5, -(0.5**0.5)])


def test_a_gated_answer_is_the_worst_and_leaves_the_others_their_differences():
    group = judged(*(Scored(-reward) for reward in (0.001, 0.002, 0.003)), Gated("wrong_type"))
    *scored, gated = [t.advantage for t in trajectories([group], loss="grpo")]
    assert gated < min(scored)
    assert np.std(scored) > 0.4  # -1 as it is would leave them .001
    floor = np.array([-0.001, -0.002, -0.003, -0.003 - np.std([0.001, 0.002, 0.003])])
    assert [*scored, gated] == pytest.approx(list((floor - floor.mean()) / floor.std(ddof=1)))


def test_where_nothing_is_divided_by_the_spread_a_gated_answer_keeps_its_penalty():
    *scored, gated = trajectories([judged(Scored(-0.1), Scored(-0.3), Gated("wrong_type"))], loss="dr_grpo")
    assert gated.advantage == pytest.approx(-1 + 1.4 / 3)
    assert scored[0].advantage - scored[1].advantage == pytest.approx(0.2)


def test_a_gated_answer_beside_equal_rewards_has_all_the_blame():
    *scored, gated = [
        t.advantage for t in trajectories([judged(*[Scored(-0.2)] * 3, Gated("wrong_type"))], loss="grpo")
    ]
    assert scored == pytest.approx([0.5] * 3)
    assert gated == pytest.approx(-1.5)


def test_a_group_that_failed_throughout_gives_nothing_to_learn():
    assert trajectories([judged(Failed("x"), Failed("y"))], loss="grpo") == []


def test_the_metrics_of_a_step_name_the_reasons_of_the_gate():
    step = measures([judged(Scored(-0.2, {"mse": 0.2}), Gated("bad_number"), Gated("wrong_type"), Failed("x"))], step=1)
    assert step["reward"] == pytest.approx((-0.2 - 1 - 1) / 3)
    assert step["gate_rate"] == 0.5
    assert step["gated"] == {"bad_number": 0.25, "wrong_type": 0.25}
    assert step["failed"] == 1
    assert step["flat"] == 0
    assert step["sample_ids"] == ["a"]
    assert step["staleness"] == 1
    assert step["scored"] == {"share": 0.25, "mse": 0.2}


def test_a_rising_average_is_not_saturated_and_a_flat_one_is():
    flat = np.tile([0.4, 0.6], 10)
    assert saturated(list(flat), window=10)
    assert not saturated(list(flat + np.linspace(0, 1, 20)), window=10)
    assert not saturated(list(flat[:19]), window=10)


def test_equal_rewards_teach_nothing_whatever_they_are():
    assert has_zero_advantage(judged(Scored(-0.2), Scored(-0.2), Failed("x")))
    assert has_zero_advantage(judged(Gated("no_answer"), Gated("wrong_type")))
    assert has_zero_advantage(judged(Failed("x"), Failed("x")))
    assert not has_zero_advantage(judged(Scored(-0.2), Scored(-0.2001)))


def test_parts_that_only_some_restorations_have_are_averaged_over_those():
    step = measures([judged(Scored(0.1, {"range": 0.2}), Scored(0.2, {"range": 0.4, "psnr": 20.0}))], step=0)
    assert step["scored"] == {"share": 1.0, "range": pytest.approx(0.3), "psnr": 20.0}
