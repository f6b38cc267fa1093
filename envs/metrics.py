"""Measures answers: T-Acc, T-F1, J-Acc, P-Abs, P-Rel (Section 5.1), set precision and recall, with intervals.

Every measure is a ratio of sums over samples, so all of them come from one table of per-sample terms: summed
once for the value, summed with resampled weights for its interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from envs.bootstrap import interval, resampled_sums
from envs.degradations import OWNERS, deviation
from envs.language.reading import Reading, read_degradation
from envs.taxonomy import Degradation, Taxonomy, parts_of

NO_ANSWER, OTHER = "no answer", "other"
"""Columns of the confusion: nothing that can be read, and a type outside the taxonomy."""


@dataclass(frozen=True)
class Metrics:
    """Holds the measures. P-Abs is in the units of the keys, averaged over keys; P-Rel is 1 for a zero prediction.

    set_precision, set_recall, set_f1: of the types answered against those there are; see `measure`.
    keys: {key: {"t_acc", "t_f1", "j_acc", "p_abs", "p_rel", "samples"}} over the samples whose truth has it; t_f1
    is that of the phenomenon the key belongs to, alone or in a composite.
    confusion: {true type: {answered type, "other" or "no answer": count}}.
    intervals: 95 %, under the names of the measures; those of a key under "KEY.p_abs" and "KEY.p_rel".
    """

    samples: int
    t_acc: float
    t_f1: float
    j_acc: float
    p_abs: float
    p_rel: float
    set_precision: float
    set_recall: float
    set_f1: float
    keys: dict[str, dict[str, float]]
    confusion: dict[str, dict[str, int]]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def as_dict(self) -> dict:
        return asdict(self)


MEASURES = ("t_acc", "t_f1", "j_acc", "p_abs", "p_rel", "set_precision", "set_recall", "set_f1")


def measure(
    truths: Sequence[Degradation],
    answers: Sequence[Reading | Degradation | None],
    taxonomy: Taxonomy,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Measures `answers`, one for each truth.

    T-Acc: the type is right. T-F1: macro F1 over the types that occur. J-Acc: type and keys are right.
    P-Abs and P-Rel of a key: mean |error| and |error| / |truth| over the samples whose truth has it; of
    several numbers mean |error| and sum |error| / sum |truth|. Where type or keys are wrong, or a value is
    invalid or out of range, the prediction is zero: |truth| and 1. Their overall value is the mean over keys.

    A composite is a type of its own for T-Acc, T-F1 and J-Acc: its whole set of parts must be right. Beside them,
    set precision and recall: the share of the parts answered that are there, and of those there that were answered,
    and set F1, their harmonic mean; means over samples, 0 without an answer. In the errors of a composite only missing
    parts are zero predictions: a key counts with its error if its part was answered, whatever else was.

    `none` is a type like any other, but has no keys: P-Abs and P-Rel are over the other samples, nan if there are none.
    The error of a direction is the shorter way round, relative to half its period.

    Raises:
        ValueError: no samples, or not one answer for each.
    """
    names, table = _table(truths, answers, taxonomy)
    values = _summarise(names, table.sum(0))
    spread = _resampled(names, table, resamples, seed) if resamples else {}
    return Metrics(
        samples=len(truths),
        **{name: values[name] for name in MEASURES},
        keys=_by_key(names, table, values, taxonomy),
        confusion=_confusion(truths, _readings(answers), taxonomy),
        intervals={name: interval(draws) for name, draws in spread.items()},
    )


def differences(
    truths: Sequence[Degradation],
    before: Sequence[Reading | Degradation | None],
    after: Sequence[Reading | Degradation | None],
    taxonomy: Taxonomy,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Compares two sets of answers: {measure: (after - before, low, high)}, samples resampled in pairs so that their
    difficulty cancels."""
    names, table_before = _table(truths, before, taxonomy)
    _, table_after = _table(truths, after, taxonomy)
    start, end = (_summarise(names, table.sum(0)) for table in (table_before, table_after))
    spread = [_resampled(names, table, resamples, seed) for table in (table_before, table_after)]
    return {
        name: (end[name] - start[name], *interval(spread[1][name] - spread[0][name])) for name in spread[0]
    }


def answered_type(answer: Reading) -> str:
    """Names the type an answer gives: one of the taxonomy, `OTHER` for one outside it, or `NO_ANSWER`."""
    return answer.type or (OTHER if answer.reason == "unknown_type" else NO_ANSWER)


def key_errors(truth: Degradation, answer: Reading, key: str) -> tuple[float, float]:
    """Returns P-Abs and P-Rel of one key of one sample."""
    right = answer.type == truth.type or (len(truth.types) > 1 and OWNERS[key] in parts_of(answer.type or ""))
    right = right and answer.degradation is not None
    if not right:
        target = np.abs(np.ravel(truth[key]).astype(float))
        return float(target.mean()), float(target.any())
    error, scale = deviation(key, truth[key], answer.degradation[key])
    return float(error.mean()), float(error.sum() / scale.sum()) if scale.any() else float(error.any())


def _readings(answers) -> list[Reading]:
    return [answer if isinstance(answer, Reading) else read_degradation(answer) for answer in answers]


def _table(truths, answers, taxonomy: Taxonomy) -> tuple[list[str], np.ndarray]:
    """(column names, (samples, columns) float64 terms)."""
    if not len(truths) or len(truths) != len(answers):
        raise ValueError(f"expected one answer for each sample, got {len(answers)} for {len(truths)} samples")
    rows = [_terms(truth, answer, taxonomy) for truth, answer in zip(truths, _readings(answers), strict=True)]
    return list(rows[0]), np.array([list(row.values()) for row in rows], dtype=float)


def _terms(truth: Degradation, answer: Reading, taxonomy: Taxonomy) -> dict[str, float]:
    type_right = answer.type == truth.type
    terms: dict[str, float] = {"n": 1, "type": type_right, "joint": type_right and answer.keys_right}
    there = set(truth.types)
    answered = set(parts_of(answer.type)) if answer.type else set()
    both = len(there & answered)
    terms |= {"precision": both / max(1, len(answered)), "recall": both / len(there)}
    terms |= {"f1": 2 * both / (len(there) + len(answered))}
    for part in taxonomy.singles:
        terms[f"hit {part.name}"] = part.name in there & answered
        terms[f"sum {part.name}"] = (part.name in there) + (part.name in answered)
    for kind in taxonomy.types:
        terms[f"true {kind.name}"] = truth.type == kind.name
        terms[f"answered {kind.name}"] = answer.type == kind.name
        terms[f"both {kind.name}"] = truth.type == answer.type == kind.name
    for key in taxonomy.keys:
        has = OWNERS[key] in there
        errors = key_errors(truth, answer, key) if has else (0, 0)
        terms |= {f"has {key}": has, f"abs {key}": errors[0], f"rel {key}": errors[1]}
    return terms


def _summarise(names: Sequence[str], sums: np.ndarray) -> dict[str, float]:
    """The measures from summed terms."""
    s = dict(zip(names, sums.tolist(), strict=True))
    values = {"t_acc": s["type"] / s["n"], "j_acc": s["joint"] / s["n"]}
    values |= {f"set_{name}": s[name] / s["n"] for name in ("precision", "recall", "f1")}
    f1 = {name[5:]: _f1(s, name[5:]) for name in names if name.startswith("true ")}
    values["t_f1"] = float(np.mean([score for score in f1.values() if score is not None]))
    values |= {f"{kind}.f1": score for kind, score in f1.items() if score is not None}
    keys = [name[4:] for name in names if name.startswith("has ") and s[name]]
    for key in keys:
        values[f"{key}.p_abs"] = s[f"abs {key}"] / s[f"has {key}"]
        values[f"{key}.p_rel"] = s[f"rel {key}"] / s[f"has {key}"]
    for error in ("p_abs", "p_rel"):
        values[error] = float(np.mean([values[f"{key}.{error}"] for key in keys])) if keys else math.nan
    return values


def _f1(sums: Mapping[str, float], kind: str) -> float | None:
    occurrences = sums[f"true {kind}"] + sums[f"answered {kind}"]
    return 2 * sums[f"both {kind}"] / occurrences if occurrences else None


def _resampled(names, table: np.ndarray, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """{measure: (resamples,)}; nan where a resample has no sample of a key."""
    total, *sums = resampled_sums(table, resamples, seed)
    draws = [_summarise(names, row) for row in sums]
    wanted = [name for name in _summarise(names, total) if not name.endswith(".f1")]
    return {name: np.array([draw.get(name, np.nan) for draw in draws]) for name in wanted}


def _by_key(names, table: np.ndarray, values: Mapping[str, float], taxonomy: Taxonomy) -> dict:
    column = {name: table[:, number] for number, name in enumerate(names)}
    result = {}
    for key in taxonomy.keys:
        part, has = OWNERS[key], column[f"has {key}"]
        if has.any():
            result[key] = {
                "t_acc": float(column["type"] @ has / has.sum()),
                "t_f1": float(2 * column[f"hit {part}"].sum() / column[f"sum {part}"].sum()),
                "j_acc": float(column["joint"] @ has / has.sum()),
                "p_abs": values[f"{key}.p_abs"],
                "p_rel": values[f"{key}.p_rel"],
                "samples": int(has.sum()),
            }
    return result


def _confusion(truths, answers: Sequence[Reading], taxonomy: Taxonomy) -> dict[str, dict[str, int]]:
    kinds = [kind.name for kind in taxonomy.types]
    table = {truth: dict.fromkeys([*kinds, OTHER, NO_ANSWER], 0) for truth in kinds}
    for truth, answer in zip(truths, answers, strict=True):
        table[truth.type][answered_type(answer)] += 1
    return table
