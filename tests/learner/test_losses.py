"""Each formula against numbers worked out by hand."""

import math

import pytest
import torch

from learner import losses as grpo

LN = math.log


def advantages(rewards, valid=None, scale=True):
    rewards = torch.tensor(rewards)
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return grpo.group_advantages(rewards, valid, scale).tolist()


def test_advantages_are_centred_and_divided_by_the_spread():
    assert advantages([1.0, 2.0, 3.0]) == [-1.0, 0.0, 1.0]
    assert advantages([0.0, 0.0, 3.0]) == pytest.approx([-0.57735, -0.57735, 1.154701], rel=1e-5)


def test_without_scaling_advantages_keep_the_unit_of_the_reward():
    assert advantages([[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]], scale=False) == [
        [-1.0, 0.0, 1.0],
        [-1.0, -1.0, 2.0],
    ]


def test_a_group_without_spread_teaches_nothing():
    for level in (-1.0, 0.0, 1 / 3, 0.1, 1e6):
        assert advantages([level] * 7) == [0.0] * 7


def test_a_failed_member_moves_nobody():
    root = 0.5**0.5
    assert advantages([1.0, float("nan"), 3.0], [True, False, True]) == pytest.approx([-root, 0.0, root])
    assert advantages([5.0, 1.0], [False, True]) == [0.0, 0.0]
    assert advantages([5.0, 1.0], [False, False]) == [0.0, 0.0]


def test_logprobs_and_entropy_of_a_known_distribution():
    logits = torch.tensor([[[LN(0.5), LN(0.25), LN(0.25)]]]) + 3.0
    assert grpo.token_logprobs(logits, torch.tensor([[1]])).item() == pytest.approx(LN(0.25))
    assert grpo.entropy(logits).item() == pytest.approx(1.5 * LN(2))


def test_what_the_engine_samples_too_rarely_counts_more_up_to_the_cap():
    learner, rollout = torch.tensor([LN(0.1), LN(0.3), LN(0.9)]), torch.tensor([LN(0.4), LN(0.2), LN(0.1)])

    def weight(how):
        return grpo.importance_weight(learner, rollout, how, 2.0).tolist()

    assert weight("truncate") == pytest.approx([0.25, 1.5, 2.0])
    assert weight("mask") == pytest.approx([0.25, 1.5, 0.0])
    assert weight("off") == [1.0, 1.0, 1.0]


def test_a_difference_of_rounding_is_no_difference():
    rollout = torch.tensor([-1.0, -1.0, -1.0])
    learner = rollout + torch.tensor([9e-5, -9e-5, 2e-4])
    weight = grpo.importance_weight(learner, rollout, "truncate", 2.0).tolist()
    assert weight[:2] == [1.0, 1.0]
    assert weight[2] == pytest.approx(1.0002, abs=1e-6)


def test_a_ratio_is_of_a_token_or_the_geometric_mean_of_a_completion():
    now, old = torch.tensor([[LN(0.4), LN(0.9), 5.0]]), torch.tensor([[LN(0.1), LN(0.9), 0.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    assert grpo.ratio(now, old, mask, "grpo")[0, :2].tolist() == pytest.approx([4.0, 1.0])
    assert grpo.ratio(now, old, mask, "gspo").tolist() == [pytest.approx([2.0])]


def test_the_clip_is_active_only_where_the_ratio_has_gone_too_far_the_right_way():
    gain = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0]])
    loss, clipped = grpo.clipped_loss(torch.tensor([[1.5, 1.5, 0.5, 0.5, 1.1]]), gain, low=0.2, high=0.3)
    assert loss[0].tolist() == pytest.approx([-1.3, 1.5, -0.5, 0.8, -2.2])
    assert clipped[0].tolist() == [True, False, False, True, False]


def test_one_advantage_holds_for_every_token_of_its_completion():
    loss, _ = grpo.clipped_loss(torch.ones(2, 3), torch.tensor([1.0, -2.0]), 0.2, 0.2)
    assert loss.tolist() == [[-1.0] * 3, [2.0] * 3]


def test_a_clipped_token_has_no_gradient():
    ratio = torch.tensor([[1.5, 1.1]], requires_grad=True)
    grpo.clipped_loss(ratio, torch.tensor([1.0]), 0.2, 0.2)[0].sum().backward()
    assert ratio.grad.tolist() == [[0.0, -1.0]]


def test_completions_weigh_the_same_and_under_dr_grpo_their_tokens_do():
    losses, mask = torch.tensor([[2.0, 4.0, 9.0], [1.0, 9.0, 9.0]]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert grpo.summed_loss(losses, mask, "grpo", 10).item() == pytest.approx(3.0 + 1.0)
    assert grpo.summed_loss(losses, mask, "gspo", 10).item() == pytest.approx(3.0 + 1.0)
    assert grpo.summed_loss(losses, mask, "dr_grpo", 10).item() == pytest.approx((2.0 + 4.0 + 1.0) / 10)


def test_padding_alone_costs_nothing():
    assert grpo.summed_loss(torch.ones(2, 3), torch.zeros(2, 3), "grpo", 10).item() == 0


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("k1", [0.0, LN(2), -LN(2)]),
        ("k2", [0.0, LN(2) ** 2 / 2, LN(2) ** 2 / 2]),
        ("k3", [0.0, 0.5 - 1 - LN(0.5), 2 - 1 - LN(2)]),
    ],
)
def test_estimates_of_the_divergence_at_a_token(estimator, expected):
    policy, reference = torch.tensor([LN(0.5), LN(0.5), LN(0.2)]), torch.tensor([LN(0.5), LN(0.25), LN(0.4)])
    assert grpo.kl(policy, reference, estimator).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_average_to_the_divergence(estimator):
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    exact = (p * (p / q).log()).sum().item()
    assert (p * grpo.kl(p.log(), q.log(), estimator)).sum().item() == pytest.approx(exact, abs=1e-6)


def test_the_gradient_of_k2_is_that_of_the_divergence():
    q, logits = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, -0.3, 0.2], requires_grad=True)
    exact = torch.autograd.grad((logits.softmax(0) * (logits.log_softmax(0) - q.log())).sum(), logits)[0]
    sampled = (logits.softmax(0).detach() * grpo.kl(logits.log_softmax(0), q.log(), "k2")).sum()
    assert torch.allclose(torch.autograd.grad(sampled, logits)[0], exact, atol=1e-6)
