"""What else could be read off the posteriors of an evaluation: argmax, median and mean side by side, and whether
their 90 % intervals hold what they promise.

Every posterior is that of a number given the numbers written before it, the severity in words summed over, so all of
it comes from one pass over the answers as they were decoded; only the number itself is chosen anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.sources.predictions import Answered
from configs.run_folders import write_atomically
from envs.bootstrap import Interval, ratio_interval
from envs.language import posterior
from envs.language.posterior import Posterior
from envs.language.reading import Reading
from envs.metrics import differences, measure
from envs.taxonomy import Degradation, Key, Taxonomy

ESTIMATORS: Mapping[str, Callable[[Key, np.ndarray], float]] = {
    "argmax": posterior.argmax,
    "median": lambda key, density: posterior.quantile(key, density, 0.5),
    "mean": posterior.mean,
}
DECODED = "decoded"
"""The answers as they are."""
LOW, HIGH = 0.05, 0.95
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
LEAST = 1e-6
"""Probability of a bin in the log loss, at least."""


def rows(
    sample_ids: Sequence[str], truths: Sequence[Degradation], answers: Sequence[Answered], taxonomy: Taxonomy
) -> list[dict]:
    """Lists one row a number that was answered with a posterior, the lines of posteriors.jsonl: {"sample_id", "key",
    "index", "truth" (None where the type is wrong or has no such number), "argmax", "median", "mean", "q05", "q95",
    "mass"}."""
    lines = []
    for sample_id, truth, answer in zip(sample_ids, truths, answers, strict=True):
        for one in answer.posteriors:
            key = taxonomy.keys[one.key]
            row = {"sample_id": sample_id, "key": one.key, "index": one.index}
            row["truth"] = _true(truth, answer, one)
            row |= {name: float(estimate(key, one.density)) for name, estimate in ESTIMATORS.items()}
            row["q05"] = posterior.quantile(key, one.density, LOW)
            row["q95"] = posterior.quantile(key, one.density, HIGH)
            lines.append(row | {"mass": round(one.mass, 6)})
    return lines


def summarise(truths: Sequence[Degradation], answers: Sequence[Answered], taxonomy: Taxonomy, seed: int = 0) -> dict:
    """Computes the `decoding` part of summary.json; empty if no answer has posteriors or no type is right.

    {"p_rel": {estimator: mean P-Rel}, "gain": {"ONE - OTHER": [difference of P-Rel, low, high]},
     "keys": {key: {"p_rel": {estimator: ...}, "coverage", "width", "mass", "numbers"}},
     "coverage": [share of truths within their 90 % interval, low, high], "numbers",
     "temperatures": {temperature: {"coverage", "log_loss"}}}. Coverage is over numbers whose type is right, integers
    left out (classes, whose interval is nearly always one of them). Where the log loss of one split is least, the
    posteriors are best calibrated: a temperature below 1 says they are too wide, and its coverage on another split
    is what narrowing them would give. It is never applied.
    """
    numbers = _with_truth(truths, answers, taxonomy)
    if not numbers:
        return {}
    readings = {
        name: [reread(answer, estimate, taxonomy) for answer in answers] for name, estimate in ESTIMATORS.items()
    }
    readings[DECODED] = [answer.reading for answer in answers]
    measured = {name: measure(truths, column, taxonomy, resamples=0) for name, column in readings.items()}
    gains = {
        f"{name} - {other}": list(differences(truths, readings[other], readings[name], taxonomy, seed=seed)["p_rel"])
        for name in ("median", "mean")
        for other in ("argmax", DECODED)
    }
    table = rows([""] * len(truths), truths, answers, taxonomy)
    keys = {name: _key(taxonomy.keys[name], table, measured) for name in measured["argmax"].keys}
    return {
        "p_rel": {name: metrics.p_rel for name, metrics in measured.items()},
        "gain": gains,
        "keys": keys,
        "coverage": list(_coverage(numbers, seed)),
        "numbers": len(numbers),
        "temperatures": {f"{temperature:g}": _tempered(numbers, temperature) for temperature in TEMPERATURES},
    }


def reread(answer: Answered, estimate: Callable[[Key, np.ndarray], float], taxonomy: Taxonomy) -> Reading:
    """Returns the answer with each of its numbers chosen anew; as it was where it is invalid."""
    given = answer.reading.degradation
    if given is None or not answer.posteriors:
        return answer.reading
    numbers: dict[str, list[float]] = {}
    for one in answer.posteriors:
        numbers.setdefault(one.key, []).append(estimate(taxonomy.keys[one.key], one.density))
    values = {name: np.reshape(read, taxonomy.keys[name].shape).tolist() for name, read in numbers.items()}
    return Reading(given.type, True, taxonomy.degradation(given.type, values))


def show(summary: Mapping) -> None:
    """Prints the `decoding` part of a summary."""
    if not summary:
        return
    scores = ", ".join(f"{name} {score:.4f}" for name, score in summary["p_rel"].items())
    print(f"P-Rel by how numbers are read off their posteriors: {scores}")
    for pair, (gain, low, high) in summary["gain"].items():
        print(f"  {pair}: {gain:+.4f} [{low:+.4f}, {high:+.4f}]")
    share, low, high = summary["coverage"]
    print(f"coverage of the 90 % intervals: {share:.3f} [{low:.3f}, {high:.3f}] of {summary['numbers']} numbers")
    best, scores = min(summary["temperatures"].items(), key=lambda item: item[1]["log_loss"])
    print(f"  best calibrated at temperature {best}, where it is {scores['coverage']:.3f}; not applied")


def write(
    folder: Path,
    sample_ids: Sequence[str],
    truths: Sequence[Degradation],
    answers: Sequence[Answered],
    taxonomy: Taxonomy,
) -> None:
    """Writes FOLDER/posteriors.jsonl, one line a number, and FOLDER/posteriors.npz, the densities of each key: float32
    (numbers, bins) under its name, in the order of its lines."""
    lines = rows(sample_ids, truths, answers, taxonomy)
    write_atomically(folder / "posteriors.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    densities: dict[str, list[np.ndarray]] = {}
    for one in (one for answer in answers for one in answer.posteriors):
        densities.setdefault(one.key, []).append(one.density)
    np.savez_compressed(folder / "posteriors.npz", **{name: np.stack(rows) for name, rows in densities.items()})


def read(folder: Path, taxonomy: Taxonomy) -> dict[str, tuple[Posterior, ...]]:
    """Reads what `write` wrote: {sample_id: the posteriors of its numbers}; nothing where there are none."""
    file, posteriors = folder / "posteriors.jsonl", {}
    if not file.is_file():
        return {}
    with np.load(folder / "posteriors.npz") as densities:
        left = {key: iter(densities[key]) for key in densities.files}
    for row in map(json.loads, file.read_text().splitlines()):
        one = Posterior(row["key"], row["index"], row["mass"], next(left[row["key"]]))
        posteriors[row["sample_id"]] = (*posteriors.get(row["sample_id"], ()), one)
    return posteriors


def _with_truth(truths, answers: Sequence[Answered], taxonomy: Taxonomy) -> list[tuple[int, Key, float, np.ndarray]]:
    """(number of the sample, key, truth, density) of every number whose type is right, integers left out."""
    return [
        (sample, taxonomy.keys[one.key], true, one.density)
        for sample, (truth, answer) in enumerate(zip(truths, answers, strict=True))
        for one in answer.posteriors
        if (true := _true(truth, answer, one)) is not None and not taxonomy.keys[one.key].is_class
    ]


def _true(truth: Degradation, answer: Answered, one: Posterior) -> float | None:
    """An answer of the right type may still have keys, or numbers of a key, that its type has not."""
    numbers = np.ravel(dict(truth.values).get(one.key, ()))
    right = answer.reading.type == truth.type and one.index < numbers.size
    return float(numbers[one.index]) if right else None


def _coverage(numbers: Sequence[tuple[int, Key, float, np.ndarray]], seed: int) -> Interval:
    """Share of truths within their interval, and its own 95 %; samples are drawn anew, with all their numbers."""
    samples = np.unique([sample for sample, *_ in numbers], return_inverse=True)[1]
    inside = np.bincount(samples, [_inside(*one) for _, *one in numbers])
    return ratio_interval(inside, np.bincount(samples), seed=seed)


def _tempered(numbers: Sequence[tuple[int, Key, float, np.ndarray]], temperature: float) -> dict[str, float]:
    inside, loss = 0, 0.0
    for _, key, truth, density in numbers:
        changed = posterior.tempered(density, temperature)
        inside += _inside(key, truth, changed)
        loss -= np.log(max(LEAST, changed[round((truth - key.low) / key.step)]))
    return {"coverage": inside / len(numbers), "log_loss": float(loss / len(numbers))}


def _inside(key: Key, truth: float, density: np.ndarray) -> bool:
    return posterior.quantile(key, density, LOW) <= truth <= posterior.quantile(key, density, HIGH)


def _key(key: Key, table: Sequence[Mapping], measured: Mapping) -> dict:
    mine = [row for row in table if row["key"] == key.name and row["truth"] is not None]
    means = {
        "coverage": [row["q05"] <= row["truth"] <= row["q95"] for row in mine],
        "width": [row["q95"] - row["q05"] for row in mine],
        "mass": [row["mass"] for row in mine],
    }
    return {
        "p_rel": {name: metrics.keys[key.name]["p_rel"] for name, metrics in measured.items()},
        **{name: float(np.mean(numbers)) if mine else None for name, numbers in means.items()},
        "numbers": len(mine),
    }
