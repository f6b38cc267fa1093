"""The columns of Tables 2 and 3: how each sample of an evaluation is restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.taxonomy import Degradation

PICTURED = 3
"""Samples of each type whose pictures the report shows."""


@dataclass(frozen=True)
class Task:
    """Says how one sample is restored, and what is wanted of the result.

    method: `diffusion` (the restorer and prior of the config), `classical` (same parameters, no prior), `blind` (the
    type alone: `degradation.type`), `given` (a picture of the method called `source`), `clean` (the truth itself, for
    its scores), or `none`.
    scored: whether it gets no-reference scores. shown: whether its picture is wanted.
    """

    method: str = "none"
    degradation: Degradation | None = None
    scored: bool = False
    shown: bool = False
    source: str = ""


def columns_of(
    truths: Sequence[Degradation],
    answers: Mapping[str, Sequence[Degradation | None]],
    foreign: Sequence[str] = (),
) -> dict[str, list[Task]]:
    """Lays out the columns: {name: [a Task a sample]}.

    `before`, `after` and `true parameters` are restored with the prior, the classical columns without; `clean` is
    there for the scores of Table 3.

    Args:
        answers: those of `before` and `after`.
        foreign: names of methods whose pictures are given.
    """
    shown = first_of_each(truths, PICTURED)

    def column(method: str, degradations: Sequence[Degradation | None]) -> list[Task]:
        return [Task(method if d else "none", d, True, i in shown) for i, d in enumerate(degradations)]

    columns = {"not restored": column("none", [None] * len(truths)), "blind": column("blind", truths)}
    columns |= {name: column("diffusion", degradations) for name, degradations in answers.items()}
    columns |= {name: [Task("given", None, True, i in shown, name) for i in range(len(truths))] for name in foreign}
    return columns | {
        "classical, after": column("classical", answers["after"]),
        "true parameters": column("diffusion", truths),
        "classical, true parameters": column("classical", truths),
        "clean": column("clean", truths),
    }


def first_of_each(truths: Sequence[Degradation], count: int) -> set[int]:
    """Returns the indices of the first `count` samples of each type."""
    indices: dict[str, list[int]] = {}
    for number, truth in enumerate(truths):
        indices.setdefault(truth.type, []).append(number)
    return {number for numbers in indices.values() for number in numbers[:count]}
