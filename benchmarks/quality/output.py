"""What an evaluation leaves in its folder: answers.jsonl, pictures/, figures/, tables/, and summary.json last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality.analysis import posteriors, tolerance
from benchmarks.quality.measures import Quality
from benchmarks.quality.report import figures, figures_restoration
from benchmarks.quality.report.table import write_csv
from benchmarks.quality.report.tables import columns_of, evaluation_tables
from benchmarks.quality.sources.predictions import Answered
from benchmarks.quality.summary import Answers, readings
from configs.run_folders import write_atomically
from envs.corpus.generate import encode
from envs.corpus.reader import CorpusSplit
from envs.taxonomy import Degradation, Taxonomy

NOT_SHOWN = ("classical, true parameters",)
"""Columns whose pictures the report leaves out."""


def write(
    folder: Path,
    summary: Mapping,
    samples: CorpusSplit,
    answers: Answers,
    qualities: Mapping[str, Sequence[Quality]],
    taxonomy: Taxonomy,
) -> None:
    """Writes everything; qualities may be empty."""
    folder.mkdir(parents=True, exist_ok=True)
    truths = samples.degradations()
    _write_pictures(folder / "pictures", samples.sample_ids(), qualities)
    for name, (svg, data) in _figures(summary, truths, answers, qualities, taxonomy).items():
        (folder / "figures").mkdir(exist_ok=True)
        write_atomically(folder / "figures" / f"{name}.svg", svg)
        write_csv(folder / "figures" / f"{name}.csv", data)
    for name, table in evaluation_tables(summary).items():
        table.write_csv(folder / "tables" / f"{name}.csv")
    if summary.get("decoding"):
        posteriors.write(folder, samples.sample_ids(), truths, answers["after"], taxonomy)
    write_answers(folder, samples.sample_ids(), truths, answers, qualities)
    write_summary(folder, summary)


def write_answers(
    folder: Path,
    sample_ids: Sequence[str],
    truths: Sequence[Degradation],
    answers: Answers,
    qualities: Mapping[str, Sequence[Quality]],
) -> None:
    """Writes FOLDER/answers.jsonl: a line a sample, with its truth, the answers, and PSNR (dB) by column."""
    lines = []
    for number, (sample_id, truth) in enumerate(zip(sample_ids, truths, strict=True)):
        row = {"sample_id": sample_id, "truth": truth.as_dict()}
        for name, column in answers.items():
            row[name] = answer_record(column[number])
        row["psnr"] = {name: round(column[number].psnr, 3) for name, column in qualities.items() if name != "clean"}
        lines.append(json.dumps(row))
    write_atomically(folder / "answers.jsonl", "\n".join(lines) + "\n")


def answer_record(answer: Answered) -> dict:
    """Returns an answer as the lines of answers.jsonl have it: as given, and what could be read of it."""
    reading = answer.reading
    degradation = reading.degradation.as_dict() if reading.degradation else None
    record = {"given": answer.given, "degradation": degradation, "reason": reading.reason}
    return record | {"type": reading.type, "keys_right": reading.keys_right}


def write_summary(folder: Path, summary: Mapping) -> None:
    """Writes FOLDER/summary.json: the evaluation is finished."""
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")


def _write_pictures(folder: Path, sample_ids: Sequence[str], qualities: Mapping[str, Sequence[Quality]]) -> None:
    for name, column in qualities.items():
        for sample_id, quality in zip(sample_ids, column, strict=True):
            if quality.picture is not None and name not in NOT_SHOWN:
                folder.mkdir(exist_ok=True)
                (folder / f"{sample_id} {name}.png").write_bytes(encode(quality.picture))


def _figures(
    summary: Mapping,
    truths: Sequence[Degradation],
    answers: Answers,
    qualities: Mapping[str, Sequence[Quality]],
    taxonomy: Taxonomy,
) -> dict[str, figures.Figure]:
    after = readings(answers["after"])
    drawn = {
        "radar": figures.radar({name: column["types"] for name, column in columns_of(summary).items()}),
        "confusion": figures.confusion(summary["confusion"]),
        "keys": figures.keys(summary["key_distribution"]),
        "values": figures.values(truths, after, taxonomy),
    }
    points = tolerance.points(truths, after, qualities) if qualities else []
    for measure in tolerance.MEASURES:
        if points and measure in points[0]:
            drawn[f"tolerance_{measure}"] = figures_restoration.tolerance(points, measure, taxonomy)
    if summary.get("bias"):
        drawn["bias"] = figures_restoration.bias(summary["bias"])
    return drawn
