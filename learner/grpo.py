"""GRPO as pure functions on tensors: advantages, ratios, losses, divergences (Section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from learner.examples import Example


@dataclass(frozen=True)
class Trajectory:
    """One judged completion. `logprobs`: of each token, from the engine, sampled at `weight_version`."""

    example: Example
    logprobs: tuple[float, ...]
    advantage: float
    weight_version: int = 0


def group_advantages(
    rewards: torch.Tensor, valid: torch.Tensor, scale_by_spread: bool = True
) -> torch.Tensor:
    """How much better each completion is than its group.

    Args:
        rewards: float (..., G); what stands where `valid` is False is never looked at (it may be NaN).
        valid: bool (..., G); False masks a member out (`Failed`): it gets 0 and moves nobody else.
        scale_by_spread: divide by the group's (population) standard deviation.

    Returns:
        (..., G): zero throughout a group whose rewards are all the same.
    """
    rewards = torch.where(valid, rewards, 0.0)
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    centred = torch.where(valid, rewards - rewards.sum(-1, keepdim=True) / count, 0.0)
    spread = ((centred**2).sum(-1, keepdim=True) / count).sqrt()
    flat = spread <= 1e-6 * rewards.abs().amax(-1, keepdim=True)  # rounding of the mean is no spread
    advantages = centred / torch.where(flat, 1.0, spread) if scale_by_spread else centred
    return torch.where(flat, 0.0, advantages)


def token_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """logits (B, T, V), tokens int64 (B, T) -> log-probabilities (B, T)."""
    return logits.gather(-1, tokens[..., None]).squeeze(-1) - logits.logsumexp(-1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of each next-token distribution, nats: (B, T, V) -> (B, T)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def importance_weight(learner: torch.Tensor, rollout: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated weight min(exp(learner - rollout), cap) of each token; `cap` 0 is off (all ones).

    Corrects for the engine's other arithmetic and older weights: what it samples too often counts less.
    """
    return (learner - rollout).exp().clamp(max=cap) if cap else torch.ones_like(learner)


def clipped_loss(
    logprobs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clipped surrogate of each token, to be minimised, and where the clip was active.

    Args:
        logprobs, old: (B, T) under the current policy, and under the learner's before this step's updates.
        advantages: (B,) or (B, T).
        low, high: the ratio counts within 1 - low .. 1 + high.
    """
    advantages = advantages if advantages.dim() == 2 else advantages[:, None]
    ratio = (logprobs - old).exp()
    plain, clipped = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(plain, clipped), clipped < plain


def kl_k3(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Estimate r - 1 - log r >= 0 of KL(policy || reference) at a sampled token, r = reference / policy."""
    difference = reference - logprobs
    return difference.expm1() - difference
