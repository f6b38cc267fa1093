"""From judged groups to what the learner takes and the log shows. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from envs.types import Failed, Gated, Group, Scored
from learner.fitted.curve import Curve
from learner.losses import FLAT, Trajectory, group_advantages
from learner.policy.collator import Example


@dataclass(frozen=True)
class JudgedGroup:
    """Holds a group with one verdict a completion, and when its restorations began and ended (seconds since the epoch).

    replaced: groups without spread that were sampled and dropped before it (`grpo.refill`).
    """

    group: Group
    verdicts: tuple[Gated | Scored | Failed, ...]
    began: float = 0.0
    ended: float = 0.0
    replaced: int = 0


def trajectories(
    judged: Sequence[JudgedGroup], loss: str, curves: Sequence[Sequence[Curve | None]] | None = None
) -> list[Trajectory]:
    """Makes what the learner takes, groups kept together; `Failed` members are masked out of their group and left out.

    Args:
        loss: as `grpo.loss`; `dr_grpo` does not divide by a group's spread.
        curves: for each group, one a completion, where rewards are fitted (`learner.fitted.answers`).
    """
    result = []
    for item, fitted in zip(judged, curves or [[None] * len(item.verdicts) for item in judged], strict=True):
        members = zip(item.group.completions, item.verdicts, advantages_of(item, loss), fitted, strict=True)
        for completion, verdict, advantage, curve in members:
            if not isinstance(verdict, Failed):
                example = Example(item.group.prompt.sample, completion.token_ids)
                version = item.group.weight_version
                result.append(Trajectory(example, completion.logprobs, advantage, version, curve))
    return result


def has_zero_advantage(item: JudgedGroup) -> bool:
    """Whether all rewards of the group are equal (or there are none): every advantage is zero."""
    return not any(advantages_of(item))


def advantages_of(item: JudgedGroup, loss: str = "grpo") -> list[float]:
    """Computes the advantage of each completion of a group; 0 of a `Failed` one. loss: as in `trajectories`."""
    scale_by_spread = loss != "dr_grpo"
    valid = [not isinstance(verdict, Failed) for verdict in item.verdicts]
    rewards = [verdict.reward if ok else 0.0 for verdict, ok in zip(item.verdicts, valid, strict=True)]
    if scale_by_spread:
        rewards = floor_gated_rewards(rewards, item)
    return group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(valid), scale_by_spread).tolist()


def floor_gated_rewards(rewards: Sequence[float], item: JudgedGroup) -> list[float]:
    """Places gated members one spread below the worst of those that were scored; other rewards stay.

    A gated answer is worth -1 where restorations differ by thousandths: left at that, one of them takes all there is
    to learn from the others of its group once that is divided by its spread.
    """
    scored = [verdict.reward for verdict in item.verdicts if isinstance(verdict, Scored)]
    if len(scored) < 2 or float(np.std(scored)) <= FLAT * max(map(abs, scored)):
        return list(rewards)
    floor = gate_floor(scored)
    return [floor if isinstance(v, Gated) else reward for v, reward in zip(item.verdicts, rewards, strict=True)]


def gate_floor(scored: Sequence[float], loss: str = "grpo") -> float:
    """Returns what a gated member counts as among rewards that differ; -1 where nothing is divided by the spread."""
    return Gated("").reward if loss == "dr_grpo" else min(scored) - float(np.std(scored))


def measures(judged: Sequence[JudgedGroup], step: int) -> dict:
    """Computes the reward side of one step's metrics.

    reward: mean over completions with a reward; spread: mean over groups of its standard deviation; gate_rate and
    gated: share of completions turned away, and by reason; flat: groups without an advantage; refilled: groups that
    were replaced for having none; sample_ids: of the groups, in order.
    """
    verdicts = [verdict for item in judged for verdict in item.verdicts]
    count = len(verdicts)
    spreads = [
        np.std([v.reward for v in item.verdicts if not isinstance(v, Failed)] or [0.0]) for item in judged
    ]
    gated = Counter(v.reason for v in verdicts if isinstance(v, Gated))
    scored = [v for v in verdicts if isinstance(v, Scored)]
    parts = {
        name: float(np.mean([v.parts[name] for v in scored if name in v.parts]))
        for name in dict.fromkeys(name for v in scored for name in v.parts)
    }
    return {
        "reward": mean_reward(judged),
        "spread": float(np.mean(spreads)),
        "gate_rate": sum(gated.values()) / count,
        "gated": {reason: number / count for reason, number in gated.items()},
        "flat": sum(map(has_zero_advantage, judged)),
        "refilled": sum(item.replaced for item in judged),
        "sample_ids": [item.group.prompt.sample_id for item in judged],
        "failed": sum(isinstance(v, Failed) for v in verdicts),
        "scored": {"share": len(scored) / count, **parts},
        "completions": count,
        "staleness": float(np.mean([step - item.group.weight_version for item in judged])),
        "tokens_per_completion": float(
            np.mean([len(c.token_ids) for item in judged for c in item.group.completions])
        ),
    }


def mean_reward(judged: Sequence[JudgedGroup]) -> float:
    """Averages the reward over all completions that have one; NaN where none has."""
    rewards = [v.reward for item in judged for v in item.verdicts if not isinstance(v, Failed)]
    return float(np.mean(rewards)) if rewards else float("nan")


def saturated(rewards: Sequence[float], window: int) -> bool:
    """Whether the running average has converged (Section 4.3, online RL).

    True when the mean of the last `window` steps exceeds that of the `window` before by less than one standard error
    of their difference.
    """
    if len(rewards) < 2 * window:
        return False
    last, before = np.array(rewards[-window:]), np.array(rewards[-2 * window : -window])
    error = np.sqrt((last.var(ddof=1) + before.var(ddof=1)) / window)
    return bool(last.mean() - before.mean() < error)
