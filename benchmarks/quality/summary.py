"""summary.json of an evaluation, as docs/formats.md lays it out: pure functions of answers and restorations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from scipy.stats import rankdata

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
NO_KEY, OTHER_KEY = "no key", "other"
UNRANKED = ("not restored", "true parameters", "classical, true parameters", "clean")
"""Columns that are no methods, or know the truth."""
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
            "ranks": ranks(qualities),
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
    """Counts {true type: {key, "other" or "no key": how often answers named it}}, whether or not they are valid."""
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
    columns = {}
    for name, column in qualities.items():
        columns[name] = {"psnr": [one.psnr for one in column], "ssim": [one.ssim for one in column]}
        if all("lpips" in one.scores for one in column):
            columns[name]["lpips"] = [one.scores["lpips"] for one in column]
    return mean_by_type(columns, truths)


def no_reference_means(qualities: Mapping[str, Sequence[Quality]], truths: Sequence[Degradation]) -> dict:
    """Computes Table 3: {type, or "all": {column: {score, f"{score}_interval", "samples"}}} over the scored samples."""
    columns = {}
    for name, column in qualities.items():
        names = sorted({score for one in column for score in one.scores} - {"lpips"})
        columns[name] = {score: [one.scores.get(score) for one in column] for score in names}
    means = mean_by_type(columns, truths)
    return means if any(cell["samples"] for cells in means.values() for cell in cells.values()) else {}


def ranks(qualities: Mapping[str, Sequence[Quality]]) -> dict:
    """Ranks the methods that know no truth, sample by sample: 1 is the best, ties share their mean rank.

    Returns {column: {measure: {"rank": [mean, low, high], "behind_after": [after - column, low, high]}}} of psnr and
    ssim.
    """
    methods = {name: column for name, column in qualities.items() if name not in UNRANKED}
    table: dict[str, dict] = {name: {} for name in methods}
    for quantity in ("psnr", "ssim"):
        numbers = np.array([[getattr(one, quantity) for one in column] for column in methods.values()])
        places = rankdata(-numbers, axis=0)
        for name, mine, place in zip(methods, numbers, places, strict=True):
            behind = [getattr(one, quantity) - other for one, other in zip(qualities["after"], mine, strict=True)]
            table[name][quantity] = {"rank": list(mean_interval(place)), "behind_after": list(mean_interval(behind))}
    return table


def mean_by_type(
    columns: Mapping[str, Mapping[str, Sequence[float | None]]], truths: Sequence[Degradation]
) -> dict[str, dict]:
    """Computes {type, or "all": {column: {measure: mean, "MEASURE_interval": [low, high], "samples"}}}.

    columns: {column: {measure: a number a sample, None where there is none}}; empty without any column.
    """
    kinds = sorted({truth.type for truth in truths})
    rows = {kind: [i for i, truth in enumerate(truths) if truth.type == kind] for kind in kinds}
    rows["all"] = list(range(len(truths)))
    means: dict[str, dict] = {}
    for kind, mine in rows.items():
        for name, measures in columns.items():
            numbers = {measure: [column[i] for i in mine] for measure, column in measures.items()}
            counted = sum(any(column[i] is not None for column in measures.values()) for i in mine)
            means.setdefault(kind, {})[name] = {"samples": counted} | _with_intervals(numbers)
    return means


def _with_intervals(numbers: Mapping[str, Sequence[float | None]]) -> dict:
    """{name: mean, f"{name}_interval": [low, high]} of each that has a number."""
    cell = {}
    for name, values in numbers.items():
        if there := [value for value in values if value is not None]:
            mean, low, high = mean_interval(there)
            cell |= {name: mean, f"{name}_interval": [low, high]}
    return cell
