"""Which answers of a group get a fitted reward, and which keep plain GRPO and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from configs.schema import Config
from envs.language.answer import Invalid, parse, write
from envs.taxonomy import Degradation, Taxonomy
from envs.types import Completion, Failed, Gated, Scored
from envs.world import world_taxonomy
from learner.fitted.curve import FEWEST, Curve, fit, is_smooth
from learner.fitted.memory import RewardMemory
from learner.rl.advantages import JudgedGroup, advantages_of, gate_floor

PLAIN = {
    "failed": "it has no reward, and is left out",
    "gated": "its reward is known",
    "composite": "several degradations at once have more than two numbers, or more than one curve could say",
    "keys": "its type has no numbers, more than two, or such as count, turn or lie on a grid",
    "wording": "it says its numbers in another order or off the grid",
    "few": f"fewer than {FEWEST} different answers to its picture have its type",
    "flat": "all rewards of its type in its group are equal",
}
"""Why an answer keeps plain GRPO."""


@dataclass(frozen=True)
class FittedGroup:
    """Holds one entry for each completion of a group: its curve, shared by those of its type, or None and the reason,
    one of `PLAIN`."""

    curves: tuple[Curve | None, ...]
    reasons: tuple[str, ...]


def fit_groups(
    judged: Sequence[JudgedGroup], config: Config, memory: RewardMemory | None = None
) -> list[FittedGroup]:
    """Fits the rewards of a step's groups; none where `grpo.estimator` is `plain`.

    memory: what earlier answers to the same pictures earned; it takes in what these did.
    """
    if config.grpo.estimator == "plain":
        return []
    taxonomy, gates, groups = world_taxonomy(config.world), config.reward.strategy != "naive", []
    for item in judged:
        name = item.group.prompt.sample_id
        groups.append(fit_group(item, taxonomy, config.grpo.loss, gates, memory.recall(name) if memory else {}))
        if memory:
            answers = zip(_answers(item, taxonomy), item.verdicts, strict=True)
            memory.add(name, {answer: v.reward for answer, v in answers if isinstance(answer, Degradation)})
    return groups


def fit_group(
    item: JudgedGroup,
    taxonomy: Taxonomy,
    loss: str,
    gates: bool = True,
    known: Mapping[Degradation, float] = MappingProxyType({}),
) -> FittedGroup:
    """Fits the rewards of a group, in units of its advantages, above what a gated answer has.

    Args:
        loss: as `grpo.loss`.
        gates: whether a token that is no value of the key makes the answer a gated one; otherwise it counts as the
            group's mean (`reward.strategy=naive`).
        known: rewards of earlier answers to the picture.
    """
    advantages, answers = advantages_of(item, loss), _answers(item, taxonomy)
    slope, offset = _scale(item, advantages)
    scored = [verdict.reward for verdict in item.verdicts if isinstance(verdict, Scored)]
    floor = slope * gate_floor(scored, loss) + offset if gates and slope else 0.0
    curves: dict[str, Curve | str] = {}
    for kind in {answer.type for answer in answers if isinstance(answer, Degradation)}:
        rows = {a: advantages[i] for i, a in enumerate(answers) if isinstance(a, Degradation) and a.type == kind}
        if slope:
            rows = {a: slope * reward + offset for a, reward in known.items() if a.type == kind} | rows
        curves[kind] = _curve(rows, kind, taxonomy, floor)
    results = [curves[answer.type] if isinstance(answer, Degradation) else answer for answer in answers]
    return FittedGroup(
        tuple(result if isinstance(result, Curve) else None for result in results),
        tuple("" if isinstance(result, Curve) else result for result in results),
    )


def fitted_share(groups: Sequence[FittedGroup]) -> dict:
    """Computes the metrics of a step: {"share": of the completions whose numbers are learned from a curve, "plain":
    {reason: share of the completions}}."""
    reasons = [reason for group in groups for reason in group.reasons]
    plain = Counter(filter(None, reasons))
    return {
        "share": reasons.count("") / len(reasons),
        "plain": {reason: count / len(reasons) for reason, count in plain.items()},
    }


def _answers(item: JudgedGroup, taxonomy: Taxonomy) -> list[Degradation | str]:
    return [_answer(c, v, taxonomy) for c, v in zip(item.group.completions, item.verdicts, strict=True)]


def _answer(completion: Completion, verdict: Gated | Scored | Failed, taxonomy: Taxonomy) -> Degradation | str:
    """Returns what was answered, or why it is not fitted."""
    answer = parse(completion.text, taxonomy)
    if isinstance(verdict, Failed):
        return "failed"
    if isinstance(verdict, Gated) or isinstance(answer, Invalid):
        return "gated"
    given = answer.degradation
    if len(given.types) > 1:
        return "composite"
    keys = taxonomy[given.type].keys
    if not 1 <= len(keys) <= 2 or not all(map(is_smooth, keys)):
        return "keys"
    return given if completion.text.endswith(write(given, taxonomy, with_rationale=False)) else "wording"


def _curve(worth: dict[Degradation, float], kind: str, taxonomy: Taxonomy, floor: float) -> Curve | str:
    if len(worth) < FEWEST:
        return "few"
    if len(set(worth.values())) == 1:
        return "flat"
    keys = taxonomy[kind].keys
    values = np.array([[answer[key.name] for key in keys] for answer in worth])
    return fit(keys, values, np.array(list(worth.values())) - floor)


def _scale(item: JudgedGroup, advantages: Sequence[float]) -> tuple[float, float]:
    """Finds slope and offset by which a restoration's reward becomes an advantage in this group; slope 0 where the
    group does not say."""
    pairs = [(v.reward, a) for v, a in zip(item.verdicts, advantages, strict=True) if isinstance(v, Scored)]
    if len({reward for reward, _ in pairs}) < 2:
        return 0.0, 0.0
    (low, worst), (high, best) = min(pairs), max(pairs)
    slope = (best - worst) / (high - low)
    return slope, worst - slope * low
