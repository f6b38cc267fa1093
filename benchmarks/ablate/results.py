"""What the finished cells of a study come to: measures of each variant and their differences, with 95 % intervals.

The test samples are the same in every cell, so a draw of the bootstrap takes one set of samples for all cells, and
seeds beside it: what is hard for everyone cancels in a difference. Three seeds say little about seeds: an interval
over three is a narrow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.ablate.studies import Cell, Study
from benchmarks.quality.analysis import posteriors
from benchmarks.quality.sources.evaluations import read_answers
from benchmarks.quality.sources.predictions import Answered
from envs.bootstrap import RESAMPLES, Interval, interval, resampled_sums
from envs.language.posterior import Posterior
from envs.language.reading import Reading, read_text
from envs.metrics import key_errors
from envs.taxonomy import Degradation, Taxonomy

Terms = Mapping[str, np.ndarray]
"""What each answer of a cell contributes to a measure, {name: float64 (samples,), nan where a sample is not concerned}:
"t_acc", "j_acc", "psnr" (dB), and of each key "KEY.p_abs", "KEY.p_rel" (as decoded), "KEY.p_rel_argmax",
"KEY.p_rel_median" (read off the posterior), and "KEY.p_rel_sampled": its expectation for a number drawn from the
posterior, as a rollout at temperature 1 draws it."""
Draws = Mapping[str, np.ndarray]
"""{measure: float64 (1 + RESAMPLES,)}: its value first, then that of each draw."""
MEANS = ("p_rel", "p_rel_argmax", "p_rel_median", "p_rel_sampled", "p_abs")
"""Measures of each key, whose overall value is the mean over keys."""


def read_terms(evaluation: Path, truths: Sequence[Degradation], taxonomy: Taxonomy) -> Terms:
    """Reads the terms of an evaluation's folder.

    Args:
        truths: of its samples, in order, on the study's grid.
        taxonomy: that of the cell, in which it answers.

    Raises:
        ValueError: it has answers to another number of samples.
    """
    rows = read_answers(evaluation)
    by_sample = posteriors.read(evaluation, taxonomy)
    answers = [
        Answered(row["after"]["given"], read_text(row["after"]["given"], taxonomy), by_sample.get(row["sample_id"], ()))
        for row in rows
    ]
    ways = {"p_rel": [answer.reading for answer in answers]}
    for name in ("argmax", "median"):
        estimate = posteriors.ESTIMATORS[name]
        ways[f"p_rel_{name}"] = [posteriors.reread(answer, estimate, taxonomy) for answer in answers]
    pairs = list(zip(truths, answers, strict=True))
    right = [(answer.reading.type == truth.type, answer.reading.keys_right) for truth, answer in pairs]
    terms = {
        "t_acc": np.array([kind for kind, _ in right], float),
        "j_acc": np.array([kind and keys for kind, keys in right], float),
        "psnr": np.array([row["psnr"]["after"] for row in rows], float),
    }
    for key in taxonomy.keys:
        if any(key in dict(truth.values) for truth in truths):
            errors = np.array([_errors(truth, answer.reading, key) for truth, answer in pairs])
            terms[f"{key}.p_abs"] = errors[:, 0]
            for way, column in ways.items():
                terms[f"{key}.{way}"] = np.array([_errors(*pair, key)[1] for pair in zip(truths, column, strict=True)])
            terms[f"{key}.p_rel_sampled"] = np.array([_expected(*pair, key, taxonomy) for pair in pairs])
    return terms


def resampled(terms: Terms, seed: int = 0) -> Draws:
    """Computes the measures of one cell, `MEANS` over keys included; nan where a draw has no sample."""
    values = np.stack(list(terms.values()), axis=1)
    there = np.isfinite(values)
    sums = resampled_sums(np.hstack([np.where(there, values, 0.0), there]), seed=seed)
    with np.errstate(invalid="ignore"):
        means = sums[:, : values.shape[1]] / sums[:, values.shape[1] :]
    draws = dict(zip(terms, means.T, strict=True))
    for mean in MEANS:
        if each := [column for name, column in draws.items() if name.endswith(f".{mean}")]:
            draws[mean] = np.mean(each, axis=0)
    return draws


def over_seeds(cells: Sequence[Draws], seed: int = 0) -> dict[str, Interval]:
    """Computes {measure: (mean over the cells, low, high)}; cells: those of one variant, a training seed each."""
    return {name: _interval([cell[name] for cell in cells], seed) for name in cells[0]}


def differences(one: Sequence[Draws], other: Sequence[Draws], seed: int = 0) -> dict[str, Interval]:
    """Computes {measure: (one - other, low, high)}, pair by pair: the same seeds in both, and the same samples."""
    pairs = list(zip(one, other, strict=True))
    shared = [name for name in one[0] if name in other[0]]
    return {name: _interval([a[name] - b[name] for a, b in pairs], seed) for name in shared}


def summarise(
    study: Study, terms: Mapping[Cell, Terms], seconds: Mapping[Cell, float], about: Mapping, seed: int = 0
) -> dict:
    """Computes the content of summary.json.

    Args:
        terms: of the finished cells.
        seconds: the wall time of their steps.
        about: settings to name.

    Returns:
        {"study", **about, "variants": {name: {"title", "seeds", "seconds": [...], "measures": {measure: [mean, low,
        high]}, "by_seed": {measure: [...]}, "paper"}}, "paper", "differences": {"ONE - OTHER": {"seeds", "measures":
        the same}}}; differences over the seeds that both have.
    """
    draws = {cell: resampled(each, seed) for cell, each in terms.items()}
    variants = {}
    for variant in study.variants:
        mine = {cell: column for cell, column in draws.items() if cell.variant == variant.name}
        if mine:
            columns = list(mine.values())
            variants[variant.name] = {
                "title": variant.title,
                "seeds": [cell.seed for cell in mine],
                "seconds": [seconds[cell] for cell in mine],
                "measures": over_seeds(columns, seed),
                "by_seed": {name: [float(column[name][0]) for column in columns] for name in columns[0]},
                "paper": dict(variant.paper),
            }
    apart = {}
    for one, other in _pairs(study, variants):
        seeds = _shared(variants[one]["seeds"], variants[other]["seeds"])
        ours, theirs = ([_of(draws, name, number) for number in seeds] for name in (one, other))
        if seeds:
            apart[f"{one} - {other}"] = {"seeds": seeds, "measures": differences(ours, theirs, seed)}
    paper = {title: dict(measures) for title, measures in study.paper.items()}
    return {"study": study.name, **about, "variants": variants, "paper": paper, "differences": apart}


def _interval(columns: Sequence[np.ndarray], seed: int) -> Interval:
    """Of a mean over seeds, which every draw but the first takes anew."""
    count = len(columns)
    drawn = np.random.default_rng([seed, count]).integers(count, size=(RESAMPLES, count))
    picks = np.vstack([np.arange(count), drawn])
    draws = np.take_along_axis(np.stack(columns), picks.T, axis=0).mean(0)
    return (float(draws[0]), *interval(draws[1:]))


def _errors(truth: Degradation, answer: Reading, key: str) -> tuple[float, float]:
    return key_errors(truth, answer, key) if key in dict(truth.values) else (np.nan, np.nan)


def _expected(truth: Degradation, answer: Answered, key: str, taxonomy: Taxonomy) -> float:
    """E sum |error| / sum |truth| of a number drawn from its posterior; 1 where the answer counts as none."""
    if key not in dict(truth.values):
        return np.nan
    target = np.ravel(truth[key]).astype(float)
    mine: list[Posterior] = [one for one in answer.posteriors if one.key == key]
    reading = answer.reading
    if reading.type != truth.type or reading.degradation is None or len(mine) != target.size:
        return _errors(truth, reading, key)[1]
    grid = np.array(list(taxonomy.keys[key].grid()))
    errors = [one.density.astype(float) @ np.abs(grid - target[one.index]) for one in mine]
    return float(np.sum(errors) / np.abs(target).sum())


def _pairs(study: Study, there: Mapping) -> list[tuple[str, str]]:
    """(variant, what it is compared with), each pair once, in the order of the study."""
    pairs: list[tuple[str, str]] = []
    for other in study.against:
        for one in (variant.name for variant in study.variants):
            if one != other and {one, other} <= set(there) and (other, one) not in pairs:
                pairs.append((one, other))
    return pairs


def _shared(one: Sequence, other: Sequence) -> list:
    """The seeds of both; of a variant without seeds, those of the other."""
    if None in one or None in other:
        return [seed for seed in [*one, *other] if seed is not None]
    return [seed for seed in one if seed in other]


def _of(draws: Mapping[Cell, Draws], variant: str, seed: int) -> Draws:
    return draws.get(Cell(variant, seed)) or draws[Cell(variant, None)]
