"""Which no-reference score would lead a policy astray: each score as a function of an error around known truth.

One key at a time is scaled by `FACTORS`, the picture is restored, and the score is asked which factor it likes best.
A score fit to be a reward has its optimum at 1. PSNR, which knows the truth, stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.quality.columns import Task
from benchmarks.quality.measures import LOWER, Quality
from envs.taxonomy import Degradation, Taxonomy

FACTORS = (0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.6)


def per_type(samples: int, types: int) -> int:
    """Returns how many samples of a type are looked at: a fifth, within 3 .. 12."""
    return max(3, min(12, samples // max(1, types) // 5))


def tasks(truths: Sequence[Degradation], chosen: Sequence[int], taxonomy: Taxonomy) -> dict[tuple, tuple[int, Task]]:
    """Lists what is to be restored, {(index of the sample, key, factor): (index, task)}.

    Factors that leave the key's range are left out.
    """
    wanted = {}
    for number in chosen:
        for key, _ in truths[number].values:
            for factor in FACTORS:
                if (moved := scaled(truths[number], key, factor, taxonomy)) is not None:
                    wanted[number, key, factor] = (number, Task("diffusion", moved, scored=True))
    return wanted


def scaled(truth: Degradation, key: str, factor: float, taxonomy: Taxonomy) -> Degradation | None:
    """Returns the truth with one key multiplied and snapped; None out of range, or where a factor changes nothing."""
    values = dict(truth.values)
    moved = _times(values[key], factor)
    try:
        degradation = taxonomy.degradation(truth.type, values | {key: moved})
    except ValueError:
        return None
    return None if factor != 1 and degradation == truth else degradation


def rows(qualities: Mapping[tuple, Quality]) -> list[dict]:
    """Lists one row a (sample, key, factor): {"sample", "key", "factor", "psnr", score: number}."""
    return [
        {"sample": number, "key": key, "factor": factor, "psnr": quality.psnr, **quality.scores}
        for (number, key, factor), quality in qualities.items()
    ]


def summarise(table: Sequence[Mapping]) -> dict:
    """Computes {score: {key: {"optimum", "prefers_truth", "curve", "samples"}}}.

    optimum: the factor whose standardised score is best on average. prefers_truth: share of the (sample, factor)
    pairs, factor not 1, in which the truth scores better; .5 is a coin. curve: {factor: mean standardised score},
    higher is better, each sample brought to mean 0 and spread 1 over its factors.
    """
    names = [name for name in dict.fromkeys(n for row in table for n in row) if name not in ("sample", "key", "factor")]
    keys = list(dict.fromkeys(row["key"] for row in table))
    return {name: {key: _cell([row for row in table if row["key"] == key], name) for key in keys} for name in names}


def _cell(table: Sequence[Mapping], name: str) -> dict:
    curves: dict[float, list[float]] = {}
    wins = []
    for number in dict.fromkeys(row["sample"] for row in table):
        sign = -1 if name in LOWER else 1
        mine = {row["factor"]: sign * row[name] for row in table if row["sample"] == number and name in row}
        if len(mine) < 2 or 1.0 not in mine:  # a picture may have no such score
            continue
        values = np.array(list(mine.values()))
        spread = values.std() or 1.0
        for factor, value in mine.items():
            curves.setdefault(factor, []).append((value - values.mean()) / spread)
            if factor != 1:
                wins.append(0.5 if value == mine[1.0] else float(value < mine[1.0]))
    curve = {factor: float(np.mean(curves[factor])) for factor in sorted(curves)}
    return {
        "optimum": max(curve, key=curve.get) if curve else None,
        "prefers_truth": float(np.mean(wins)) if wins else None,
        "curve": {f"{factor:g}": value for factor, value in curve.items()},
        "samples": len({row["sample"] for row in table}),
    }


def _times(value, factor: float):
    return tuple(_times(part, factor) for part in value) if isinstance(value, tuple) else value * factor
