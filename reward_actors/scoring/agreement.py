"""How near an answer is to the middle of all answers to the same picture: a reward that needs no truth.

As test-time RL takes the majority's answer for the right one: of numbers, the middle is the median.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.environment import relative_error
from envs.taxonomy import Degradation
from envs.types import Failed, Scored
from reward_actors.scoring.terms import AGREEMENT, Spec, terms


def agreements(answers: Sequence[Degradation | None]) -> list[float]:
    """Of each answer 1 - `relative_error` against the median, key by key, of those of the most frequent type.

    1 is the median itself, 0 another type (of two as frequent ones, that of the first answer counts) or no answer.
    """
    read = [answer for answer in answers if answer is not None]
    if not read:
        return [0.0] * len(answers)
    kind = Counter(answer.type for answer in read).most_common(1)[0][0]
    middle = _median([answer for answer in read if answer.type == kind])
    return [1.0 - relative_error(middle, answer) if answer and answer.type == kind else 0.0 for answer in answers]


def with_agreement(
    scorer: Spec, answers: Sequence[Degradation | None], scores: Sequence[Scored | Failed]
) -> list[Scored | Failed]:
    """The scores of one group's answers, in order, with the term `agreement` where `scorer` has it."""
    term = next((term for term in terms(scorer) if term.name == AGREEMENT), None)
    if term is None:
        return list(scores)

    def added(score: Scored | Failed, value: float) -> Scored | Failed:
        if isinstance(score, Failed):
            return score
        return replace(score, reward=score.reward + term.weight * value, parts={**score.parts, AGREEMENT: value})

    return [added(*pair) for pair in zip(scores, agreements(answers), strict=True)]


def _median(answers: Sequence[Degradation]) -> Degradation:
    """Of answers of one type; between two grid values it is not on the grid."""
    values = ((key, np.median([answer[key] for answer in answers], axis=0)) for key, _ in answers[0].values)
    return Degradation(answers[0].type, tuple(values))
