"""summary.json of an evaluation, as docs/formats.md lays it out: pure functions of answers and restorations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.quality.analysis import bias, bounds, posteriors, tolerance
from benchmarks.quality.measures import Quality
from benchmarks.quality.sources.predictions import Answered, reasons
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.language.reading import Reading
from envs.metrics import differences, measure
from envs.taxonomy import Degradation, Taxonomy

Answers = Mapping[str, Sequence[Answered]]
"""{"before", if there is one, and "after": an answer a sample}."""
NO_KEY, OTHER_KEY = "none", "other"
_KEY = re.compile(r"\[K-([^\[\]\s]{1,32})\]")
_JSON_NUMBER = re.compile(r'"(\w{1,32})"\s{0,8}:\s{0,8}[-\[\d]')


def summarise(
    config: Config,
    truths: Sequence[Degradation],
    answers: Answers,
    qualities: Mapping[str, Sequence[Quality]],
    biases: Sequence[Mapping],
    taxonomy: Taxonomy,
) -> dict:
    """Computes the content of summary.json: the measures of `after` on top, then those of `before`, and the rest.

    Args:
        qualities: {column: a Quality a sample}, empty where nothing was restored.
        biases: the rows of the bias table.
    """
    after = readings(answers["after"])
    summary = understanding(truths, answers["after"], taxonomy, config.seed) | {
        "corpus": config.corpus,
        "split": config.split,
        "answers": config.policy,
        "zero_prediction": zero_prediction(truths, taxonomy),
        "bounds": bounds.measure_bounds(truths, after, [answer.posteriors for answer in answers["after"]], taxonomy),
        "decoding": posteriors.summarise(truths, answers["after"], taxonomy, config.seed),
    }
    if "before" in answers:
        summary["before"] = understanding(truths, answers["before"], taxonomy, config.seed)
        summary["before"]["answers"] = config.before
        gains = differences(truths, readings(answers["before"]), after, taxonomy, seed=config.seed)
        summary["differences"] = {name: list(gain) for name, gain in gains.items()}
    if qualities:
        judged = {name: column for name, column in qualities.items() if name != "clean"}
        summary |= {
            "restoration": restoration_means(judged, truths),
            "no_reference": no_reference_means(qualities, truths),
            "tolerance": tolerance.correlations(tolerance.points(truths, after, qualities)),
            "bias": bias.summarise(biases),
            "reward": asdict(config.reward),
        }
        if "before" in qualities:
            pairs = zip(qualities["after"], qualities["before"], strict=True)
            summary["differences"]["psnr"] = list(mean_interval([one.psnr - other.psnr for one, other in pairs]))
    return summary


def understanding(truths: Sequence[Degradation], column: Sequence[Answered], taxonomy: Taxonomy, seed: int) -> dict:
    """Computes what one policy understood: the measures, by type too, the keys it named, and its invalid answers."""
    return measure(truths, readings(column), taxonomy, seed=seed).as_dict() | {
        "types": by_type(truths, readings(column)),
        "key_distribution": key_distribution(truths, [answer.given for answer in column], taxonomy),
        "invalid": reasons(column),
    }


def readings(column: Sequence[Answered]) -> list[Reading]:
    """Returns the answers as they were read."""
    return [answer.reading for answer in column]


def by_type(truths: Sequence[Degradation], column: Sequence[Reading]) -> dict:
    """Computes {type: {"t_acc", "t_f1", "j_acc", "samples"}}: the spokes of Figure 4."""
    spokes = {}
    for kind in sorted({truth.type for truth in truths}):
        mine = [reading for truth, reading in zip(truths, column, strict=True) if truth.type == kind]
        hits = sum(reading.type == kind for reading in mine)
        answered = sum(reading.type == kind for reading in column)
        joint = sum(reading.type == kind and reading.keys_right for reading in mine)
        spokes[kind] = {
            "t_acc": hits / len(mine),
            "t_f1": 2 * hits / (len(mine) + answered),
            "j_acc": joint / len(mine),
            "samples": len(mine),
        }
    return spokes


def zero_prediction(truths: Sequence[Degradation], taxonomy: Taxonomy) -> dict[str, float]:
    """Computes P-Abs of an answer that is always wrong: mean |truth| of each key, and the mean over keys."""
    sizes = {
        key: [float(np.mean(np.abs(truth[key]))) for truth in truths if key in dict(truth.values)]
        for key in taxonomy.keys
    }
    means = {key: float(np.mean(numbers)) for key, numbers in sizes.items() if numbers}
    return means | {"mean": float(np.mean(list(means.values())))}


def key_distribution(truths: Sequence[Degradation], given: Sequence[object], taxonomy: Taxonomy) -> dict:
    """Counts {true type: {key, "other" or "none": how often answers named it}}, whether or not they are valid."""
    names = list(taxonomy.keys)
    table = {truth: dict.fromkeys([*names, OTHER_KEY, NO_KEY], 0) for truth in sorted({t.type for t in truths})}
    for truth, answer in zip(truths, given, strict=True):
        for key in named_keys(answer) or (NO_KEY,):
            table[truth.type][key if key in names or key == NO_KEY else OTHER_KEY] += 1
    return table


def named_keys(answer: object) -> tuple[str, ...]:
    """Finds the keys an answer names: text in tokens, text with JSON in it (names of numbers), or an object."""
    if isinstance(answer, str):
        return tuple(_KEY.findall(answer[:10_000]) or _JSON_NUMBER.findall(answer[:10_000]))
    values = answer.get("values") if isinstance(answer, Mapping) else None
    return tuple(str(key) for key in values) if isinstance(values, Mapping) else ()


def restoration_means(qualities: Mapping[str, Sequence[Quality]], truths: Sequence[Degradation]) -> dict:
    """Computes Table 2: {type, or "all": {column: {"psnr", "psnr_interval", "ssim", "ssim_interval", "samples"}}};
    lpips too where every picture has it."""
    means: dict[str, dict] = {}
    for kind, rows in _rows_by_type(truths).items():
        for name, column in qualities.items():
            mine = [column[row] for row in rows]
            numbers = {"psnr": [one.psnr for one in mine], "ssim": [one.ssim for one in mine]}
            if all("lpips" in one.scores for one in mine):
                numbers["lpips"] = [one.scores["lpips"] for one in mine]
            means.setdefault(kind, {})[name] = {"samples": len(mine)} | _with_intervals(numbers)
    return means


def no_reference_means(qualities: Mapping[str, Sequence[Quality]], truths: Sequence[Degradation]) -> dict:
    """Computes Table 3: {type, or "all": {column: {score, f"{score}_interval", "samples"}}} over the scored samples."""
    means: dict[str, dict] = {}
    for kind, rows in _rows_by_type(truths).items():
        for name, column in qualities.items():
            scored = [column[row].scores for row in rows if set(column[row].scores) - {"lpips"}]
            names = sorted({name for scores in scored for name in scores} - {"lpips"})
            numbers = {name: [scores[name] for scores in scored if name in scores] for name in names}
            means.setdefault(kind, {})[name] = {"samples": len(scored)} | _with_intervals(numbers)
    return means if any(cell["samples"] for cells in means.values() for cell in cells.values()) else {}


def _with_intervals(numbers: Mapping[str, Sequence[float]]) -> dict:
    """{name: mean, f"{name}_interval": [low, high]} of each."""
    cell = {}
    for name, values in numbers.items():
        mean, low, high = mean_interval(values)
        cell |= {name: mean, f"{name}_interval": [low, high]}
    return cell


def _rows_by_type(truths: Sequence[Degradation]) -> dict[str, list[int]]:
    kinds = sorted({truth.type for truth in truths})
    rows = {kind: [i for i, truth in enumerate(truths) if truth.type == kind] for kind in kinds}
    return rows | {"all": list(range(len(truths)))}
