"""summary.json of an evaluation, as docs/formats.md lays it out: pure functions of answers and restorations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.quality.analysis import bias, bounds
from benchmarks.quality.report import figures
from benchmarks.quality.sources import predictions as given
from configs.schema import Config
from envs.language.reading import Reading
from envs.metrics import differences, measure
from envs.taxonomy import Degradation, Taxonomy

Answers = Mapping[str, Sequence[given.Answered]]


def summarise(
    config: Config,
    truths: Sequence[Degradation],
    answers: Answers,
    qualities: Mapping[str, Sequence],
    biased: Sequence[Mapping],
    taxonomy: Taxonomy,
) -> dict:
    """The content of summary.json: the measures of `after` on top, then those of `before`, the gains, and the rest.

    qualities: the columns of restorations, empty where nothing was restored; biased: the rows of the bias table.
    """
    summary = _understanding(config, truths, answers["after"], taxonomy)
    summary |= {
        "corpus": config.corpus,
        "split": config.split,
        "answers": config.policy,
        "zero_prediction": zero_prediction(truths, taxonomy),
        "bounds": bounds.measure_bounds(
            truths, readings(answers["after"]), [answer.posteriors for answer in answers["after"]], taxonomy
        ),
    }
    if "before" in answers:
        summary["before"] = _understanding(config, truths, answers["before"], taxonomy) | {"answers": config.before}
        columns = (readings(answers[name]) for name in ("before", "after"))
        gains = differences(truths, *columns, taxonomy, seed=config.seed)
        summary["differences"] = {name: list(gain) for name, gain in gains.items()}
    if qualities:
        summary |= _restorations(truths, readings(answers["after"]), qualities)
        summary["bias"] = bias.summarise(biased)
        summary["reward"] = asdict(config.reward)
        if "before" in qualities:
            from benchmarks.quality.report.restoration_tables import gain

            summary["differences"]["psnr"] = list(gain(qualities["after"], qualities["before"]))
    return summary


def readings(column: Sequence[given.Answered]) -> list[Reading]:
    return [answer.reading for answer in column]


def by_type(truths: Sequence[Degradation], column: Sequence[Reading]) -> dict:
    """{type: {"t_acc", "t_f1", "j_acc", "samples"}}: the spokes of Figure 4."""
    found = {}
    for kind in sorted({truth.type for truth in truths}):
        mine = [reading for truth, reading in zip(truths, column, strict=True) if truth.type == kind]
        hits = sum(reading.type == kind for reading in mine)
        said = sum(reading.type == kind for reading in column)
        joint = sum(reading.type == kind and reading.keys_right for reading in mine)
        found[kind] = {
            "t_acc": hits / len(mine),
            "t_f1": 2 * hits / (len(mine) + said),
            "j_acc": joint / len(mine),
            "samples": len(mine),
        }
    return found


def zero_prediction(truths: Sequence[Degradation], taxonomy: Taxonomy) -> dict[str, float]:
    """P-Abs of an answer that is always wrong: mean |truth| of each key, and the mean over keys."""
    found = {}
    for key in taxonomy.keys:
        sizes = [float(np.mean(np.abs(truth[key]))) for truth in truths if key in dict(truth.values)]
        if sizes:
            found[key] = float(np.mean(sizes))
    return found | {"mean": float(np.mean(list(found.values())))}


def _understanding(config: Config, truths, column: Sequence[given.Answered], taxonomy: Taxonomy) -> dict:
    found = measure(truths, readings(column), taxonomy, seed=config.seed).as_dict()
    return found | {
        "types": by_type(truths, readings(column)),
        "key_distribution": figures.key_distribution(truths, [answer.given for answer in column], taxonomy),
        "invalid": given.reasons(column),
    }


def _restorations(truths, column: Sequence[Reading], qualities: Mapping[str, Sequence]) -> dict:
    from benchmarks.quality.analysis import tolerance
    from benchmarks.quality.report import restoration_tables

    judged = {name: found for name, found in qualities.items() if name != "clean"}
    return {
        "restoration": restoration_tables.table(judged, truths),
        "no_reference": restoration_tables.no_reference_table(qualities, truths),
        "tolerance": tolerance.correlations(tolerance.points(truths, column, qualities)),
    }
