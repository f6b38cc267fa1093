"""Each formula against numbers worked out by hand."""

import math

import pytest
import torch

from learner import grpo

LN = math.log


def advantages(rewards, valid=None, scale=True):
    rewards = torch.tensor(rewards)
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return grpo.group_advantages(rewards, valid, scale).tolist()


def test_advantages_are_centred_and_divided_by_the_spread():
    assert advantages([1.0, 2.0, 3.0]) == pytest.approx([-1.224745, 0.0, 1.224745])


def test_without_scaling_advantages_keep_the_unit_of_the_reward():
    assert advantages([[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]], scale=False) == [
        [-1.0, 0.0, 1.0],
        [-1.0, -1.0, 2.0],
    ]


def test_a_group_without_spread_teaches_nothing():
    for level in (-1.0, 0.0, 1 / 3, 0.1, 1e6):
        assert advantages([level] * 7) == [0.0] * 7


def test_a_failed_member_moves_nobody():
    assert advantages([1.0, float("nan"), 3.0], [True, False, True]) == [-1.0, 0.0, 1.0]
    assert advantages([5.0, 1.0], [False, True]) == [0.0, 0.0]
    assert advantages([5.0, 1.0], [False, False]) == [0.0, 0.0]


def test_logprobs_and_entropy_of_a_known_distribution():
    logits = torch.tensor([[[LN(0.5), LN(0.25), LN(0.25)]]]) + 3.0
    assert grpo.token_logprobs(logits, torch.tensor([[1]])).item() == pytest.approx(LN(0.25))
    assert grpo.entropy(logits).item() == pytest.approx(1.5 * LN(2))


def test_the_importance_weight_is_truncated_above_only():
    learner, rollout = torch.tensor([LN(0.1), LN(0.3), LN(0.9)]), torch.tensor([LN(0.4), LN(0.2), LN(0.1)])
    assert grpo.importance_weight(learner, rollout, 2.0).tolist() == pytest.approx([0.25, 1.5, 2.0])
    assert grpo.importance_weight(learner, rollout, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_the_clip_is_active_only_where_the_ratio_has_gone_too_far_the_right_way():
    ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5, 1.1]])
    gain = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0]])
    loss, clipped = grpo.clipped_loss(ratio.log(), torch.zeros(1, 5), gain, low=0.2, high=0.3)
    assert loss[0].tolist() == pytest.approx([-1.3, 1.5, -0.5, 0.8, -2.2])
    assert clipped[0].tolist() == [True, False, False, True, False]


def test_one_advantage_holds_for_every_token_of_its_completion():
    loss, _ = grpo.clipped_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([1.0, -2.0]), 0.2, 0.2)
    assert loss.tolist() == [[-1.0] * 3, [2.0] * 3]


def test_a_clipped_token_has_no_gradient():
    logprobs = torch.tensor([[LN(1.5), LN(1.1)]], requires_grad=True)
    grpo.clipped_loss(logprobs, torch.zeros(1, 2), torch.tensor([1.0]), 0.2, 0.2)[0].sum().backward()
    assert logprobs.grad.tolist()[0] == pytest.approx([0.0, -1.1])


def test_k3_is_zero_at_equality_and_positive_elsewhere():
    policy, reference = torch.tensor([LN(0.5), LN(0.5), LN(0.2)]), torch.tensor([LN(0.5), LN(0.25), LN(0.4)])
    assert grpo.kl_k3(policy, reference).tolist() == pytest.approx([0.0, 0.5 - 1 - LN(0.5), 2 - 1 - LN(2)])


def test_k3_averages_to_the_kl_divergence():
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    exact = (p * (p / q).log()).sum().item()
    assert (p * grpo.kl_k3(p.log(), q.log())).sum().item() == pytest.approx(exact, abs=1e-6)
