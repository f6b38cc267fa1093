"""What each answer of a finished cell contributes to a measure: plain arrays over the samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.language.reading import Reading, read_text
from envs.metrics import key_errors
from envs.taxonomy import Degradation, Taxonomy

Terms = Mapping[str, np.ndarray]
"""{name: float64 (samples,), nan where a sample is not concerned}: "t_acc", "j_acc", "psnr" (dB), and of each key
"KEY.p_abs", "KEY.p_rel" (as decoded), "KEY.p_rel_argmax", "KEY.p_rel_median" (read off the posterior), and
"KEY.p_rel_sampled": its expectation for a number drawn from the posterior, as a rollout at temperature 1 draws it."""
ESTIMATES = ("argmax", "median")


def read_terms(evaluation: Path, truths: Sequence[Degradation], taxonomy: Taxonomy) -> Terms:
    """The terms of an evaluation's folder.

    truths: of its samples, in order, on the study's grid. taxonomy: that of the cell, in which it answers.

    Raises:
        ValueError: it has answers to another number of samples.
    """
    rows = [json.loads(line) for line in (evaluation / "answers.jsonl").read_text().splitlines()]
    pairs = list(zip(truths, [read_text(row["after"]["given"], taxonomy) for row in rows], strict=True))
    believed = _beliefs(evaluation, taxonomy)
    beliefs = [believed.get(row["sample_id"], []) for row in rows]
    terms = {
        "t_acc": _floats(answer.type == truth.type for truth, answer in pairs),
        "j_acc": _floats(answer.type == truth.type and answer.keys_right for truth, answer in pairs),
        "psnr": _floats(row["psnr"]["after"] for row in rows),
    }
    for key in taxonomy.keys:
        if any(key in dict(truth.values) for truth in truths):
            errors = [_errors(truth, answer, key) for truth, answer in pairs]
            terms[f"{key}.p_abs"], terms[f"{key}.p_rel"] = np.array(errors).T
            for name in ESTIMATES:
                changed = (_reread(a, b, name, taxonomy) for (_, a), b in zip(pairs, beliefs, strict=True))
                terms[f"{key}.p_rel_{name}"] = _floats(
                    _errors(truth, answer, key)[1] for truth, answer in zip(truths, changed, strict=True)
                )
            terms[f"{key}.p_rel_sampled"] = _floats(
                _expected(truth, answer, key, b) for (truth, answer), b in zip(pairs, beliefs, strict=True)
            )
    return terms


def _floats(values) -> np.ndarray:
    return np.array(list(values), dtype=float)


def _errors(truth: Degradation, answer: Reading, key: str) -> tuple[float, float]:
    return key_errors(truth, answer, key) if key in dict(truth.values) else (np.nan, np.nan)


def _beliefs(evaluation: Path, taxonomy: Taxonomy) -> dict[str, list[dict]]:
    """{sample_id: the lines of posteriors.jsonl, each with its "density" and "grid"}; nothing without posteriors."""
    file, found = evaluation / "posteriors.jsonl", {}
    if not file.is_file():
        return {}
    with np.load(evaluation / "posteriors.npz") as densities:
        left = {key: iter(densities[key]) for key in densities.files}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        row |= {"density": next(left[row["key"]]), "grid": np.array(list(taxonomy.keys[row["key"]].grid()))}
        found.setdefault(row["sample_id"], []).append(row)
    return found


def _reread(answer: Reading, beliefs: Sequence[Mapping], estimate: str, taxonomy: Taxonomy) -> Reading:
    """The answer with each of its numbers read off its posterior; as it is where it is invalid."""
    if answer.degradation is None or not beliefs:
        return answer
    numbers: dict[str, list[float]] = {}
    for belief in beliefs:
        numbers.setdefault(belief["key"], []).append(belief[estimate])
    values = {key: np.reshape(found, taxonomy.keys[key].shape).tolist() for key, found in numbers.items()}
    return Reading(answer.type, True, taxonomy.degradation(answer.type, values))


def _expected(truth: Degradation, answer: Reading, key: str, beliefs: Sequence[Mapping]) -> float:
    """E sum |error| / sum |truth| of a number drawn from its posterior; 1 where the answer counts as none."""
    mine = [belief for belief in beliefs if belief["key"] == key]
    if key not in dict(truth.values):
        return np.nan
    target = np.ravel(truth[key]).astype(float)
    if answer.type != truth.type or answer.degradation is None or len(mine) != target.size:
        return _errors(truth, answer, key)[1]
    errors = [b["density"].astype(float) @ np.abs(b["grid"] - target[b["index"]]) for b in mine]
    return float(np.sum(errors) / np.abs(target).sum())
