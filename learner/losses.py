"""GRPO as pure functions on tensors: advantages, ratios, losses, divergences (Section 4.2).

What `grpo.loss` names, for N completions and advantages A (docs/learning.md has the equations):

    grpo     mean over completions of the mean over tokens; A divided by the group's spread   (DeepSeekMath)
    dr_grpo  sum over tokens / (N x longest completion allowed); A not divided                (Dr. GRPO)
    gspo     like grpo, but one ratio a completion: the geometric mean of its tokens' ratios  (GSPO)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from configs.schema import Grpo
from learner.fitted.curve import Curve
from learner.policy.collator import Example

NOISE = 1e-4
"""Difference of log-probabilities, nats, below which two engines of the same weights agree in float32."""

FLAT = 1e-6
"""Spread of a group's rewards, relative to the largest of them, up to which they are equal."""

CAP = 2.0
"""Largest importance weight of a token (`importance_weight`)."""


@dataclass(frozen=True)
class Trajectory:
    """Holds one judged completion. logprobs: of each token, from the engine, nats; it sampled at `weight_version`.

    curve: the fitted worth of its numbers, shared by its group (`grpo.estimator=fitted`); None: as it was sampled.
    """

    example: Example
    logprobs: tuple[float, ...]
    advantage: float
    weight_version: int = 0
    curve: Curve | None = None


def group_advantages(
    rewards: torch.Tensor, valid: torch.Tensor, scale_by_spread: bool = True
) -> torch.Tensor:
    """Compares each completion with its group: how much better its reward is than the mean.

    Args:
        rewards: float (..., G); what stands where `valid` is False is never looked at (it may be NaN).
        valid: bool (..., G); False masks a member out (`Failed`): it gets 0 and moves nobody else.
        scale_by_spread: divide by the group's sample standard deviation (n - 1).

    Returns:
        (..., G): zero throughout a group whose rewards are all the same. Nothing is added to the spread for that:
        rewards of a restoration may differ by far less than the usual 1e-4.
    """
    rewards = torch.where(valid, rewards, 0.0)
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    centred = torch.where(valid, rewards - rewards.sum(-1, keepdim=True) / count, 0.0)
    spread = ((centred**2).sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    flat = spread <= FLAT * rewards.abs().amax(-1, keepdim=True)  # rounding of the mean is no spread
    advantages = centred / torch.where(flat, 1.0, spread) if scale_by_spread else centred
    return torch.where(flat, 0.0, advantages)


def token_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Reads the log-probability of each token: logits (..., V), tokens int64 (...) -> (...)."""
    return logits.gather(-1, tokens[..., None]).squeeze(-1) - logits.logsumexp(-1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Computes the entropy of each next-token distribution, nats: logits (..., V) -> (...)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def logprobs_and_entropy(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads both of logits (..., V) and tokens int64 (...); no gradient flows through the entropy."""
    with torch.no_grad():
        uncertainty = entropy(logits)
    return token_logprobs(logits, tokens), uncertainty


def importance_weight(learner: torch.Tensor, rollout: torch.Tensor, how: str, cap: float) -> torch.Tensor:
    """Computes the weight w = exp(learner - rollout) of each token, bounded above.

    Corrects for the engine's other arithmetic and older weights: what it samples too often counts less. A difference
    within `NOISE` is none: what rounding did to it depends on which sequences happened to share the engine's batch,
    and a run could not be repeated to the bit.

    Args:
        learner, rollout: log-probabilities (B, T) under the learner's weights before its update, and the engine's.
        how: `truncate` (min(w, cap)), `mask` (0 where w > cap) or `off` (1 throughout).
    """
    if how == "off":
        return torch.ones_like(learner)
    difference = learner - rollout
    weight = torch.where(difference.abs() < NOISE, 0.0, difference).exp()
    return weight.clamp(max=cap) if how == "truncate" else torch.where(weight > cap, 0.0, weight)


def ratio(logprobs: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, loss: str) -> torch.Tensor:
    """Divides the probability under the current policy by that before the step's updates: (B, T), (B, 1) for `gspo`."""
    difference = logprobs - old
    if loss == "gspo":
        difference = ((difference * mask).sum(-1) / lengths(mask))[:, None]
    return difference.exp()


def clipped_loss(
    ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the clipped surrogate, to be minimised, and where the clip was active.

    Args:
        ratio: (B, T) or (B, 1); it counts within 1 - low .. 1 + high.
        advantages: (B,) or (B, T).
    """
    advantages = advantages if advantages.dim() == 2 else advantages[:, None]
    plain, clipped = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(plain, clipped), clipped < plain


def kl(logprobs: torch.Tensor, reference: torch.Tensor, estimator: str = "k3") -> torch.Tensor:
    """Estimates KL(policy || reference) at a sampled token, with r = reference / policy.

    k1 = -log r (unbiased, may be negative), k2 = (log r)^2 / 2 (biased, its gradient is that of the divergence),
    k3 = r - 1 - log r (unbiased, never negative).
    """
    difference = reference - logprobs
    if estimator == "k1":
        return -difference
    return 0.5 * difference**2 if estimator == "k2" else difference.expm1() - difference


def token_losses(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    rollout: torch.Tensor,
    reference: torch.Tensor | None,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    settings: Grpo,
    expected: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Computes the loss of each token before it is averaged, and its parts for the metrics, all (B, T).

    Args:
        logprobs, old, rollout, reference: (B, T) under the current policy, the learner's weights before this step's
            updates, the engine's when it sampled, and the frozen reference (None: no KL).
        advantages: (B,).
        mask: (B, T), 1 on completion tokens.
        expected: (where, worth), bool and float (B, T): where a token's advantage is taken in expectation over the
            current policy, which needs neither ratio nor clip nor importance weight, and what it is there.
    """
    sampled = mask if expected is None else mask * ~expected[0]
    surrogate, clipped = clipped_loss(
        ratio(logprobs, old, sampled, settings.loss), advantages, *settings.clip
    )
    weight = importance_weight(old, rollout, settings.importance, CAP)
    loss = weight * surrogate
    if expected is not None:
        loss, clipped = torch.where(expected[0], -expected[1], loss), clipped & ~expected[0]
    parts = {"clipped": clipped.float().expand_as(mask), "importance_weight": weight}
    parts |= {"mismatch": (old - rollout).abs(), "mismatch_kl": kl(old, rollout)}
    if reference is not None:
        parts["policy_kl"] = kl(logprobs, reference, settings.kl_estimator)
        loss = loss + settings.kl * parts["policy_kl"]
    return loss, parts


def summed_loss(losses: torch.Tensor, mask: torch.Tensor, loss: str, max_tokens: int) -> torch.Tensor:
    """Sums the losses of completions; divided by the number of completions it is the batch's loss.

    A completion's loss is the mean over its tokens, or for `dr_grpo` their sum over the constant `max_tokens`: there
    a token weighs the same in a long answer and in a short one.
    """
    sums = (losses * mask).sum(-1)
    return (sums / (max_tokens if loss == "dr_grpo" else lengths(mask))).sum()


def lengths(mask: torch.Tensor) -> torch.Tensor:
    """Counts the tokens of each completion, at least 1: (B, T) -> (B,)."""
    return mask.sum(-1).clamp(min=1)
