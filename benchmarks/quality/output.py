"""What an evaluation leaves in its folder: answers.jsonl, pictures/, figures/, tables/, and summary.json last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality.analysis import posteriors
from benchmarks.quality.report import figures, records
from benchmarks.quality.summary import Answers, readings
from configs.run_folders import write_atomically
from envs.corpus.generate import encode
from envs.corpus.reader import CorpusSplit
from envs.taxonomy import Taxonomy

PICTURES = 3  # rows of pictures a type, for the report
SHOWN = ("not restored", "blind", "classical, after", "before", "after", "true parameters")


def write(
    folder: Path,
    summary: Mapping,
    samples: CorpusSplit,
    answers: Answers,
    qualities: Mapping[str, Sequence],
    taxonomy: Taxonomy,
) -> None:
    """Writes everything; qualities may be empty."""
    folder.mkdir(parents=True, exist_ok=True)
    truths = samples.degradations()
    lines = _answer_lines(samples.sample_ids(), truths, answers, qualities)
    if qualities:
        from benchmarks.quality.restorations import first_of_each

        _write_pictures(folder / "pictures", samples, sorted(first_of_each(truths, PICTURES)), qualities)
    for name, (svg, data) in _figures(summary, truths, answers, qualities, taxonomy).items():
        (folder / "figures").mkdir(exist_ok=True)
        write_atomically(folder / "figures" / f"{name}.svg", svg)
        records.write_csv(folder / "figures" / f"{name}.csv", data)
    for name, data in _tables(summary).items():
        records.write_csv(folder / "tables" / f"{name}.csv", data)
    if summary.get("decoding"):
        posteriors.write(folder, samples.sample_ids(), truths, answers["after"], taxonomy)
    write_atomically(folder / "answers.jsonl", "\n".join(lines) + "\n")
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")


def _answer_lines(sample_ids: Sequence[str], truths, answers: Answers, qualities) -> list[str]:
    lines = []
    for number, (sample_id, truth) in enumerate(zip(sample_ids, truths, strict=True)):
        row = {"sample_id": sample_id, "truth": truth.as_dict()}
        for name, column in answers.items():
            reading = column[number].reading
            found = reading.degradation.as_dict() if reading.degradation else None
            row[name] = {"given": column[number].given, "degradation": found, "reason": reading.reason}
        row["psnr"] = {name: round(column[number].psnr, 3) for name, column in qualities.items() if name != "clean"}
        lines.append(json.dumps(row))
    return lines


def _write_pictures(folder: Path, samples: CorpusSplit, rows: Sequence[int], qualities) -> None:
    folder.mkdir(exist_ok=True)
    for number in rows:
        sample = samples[number]
        pictures = {name: qualities[name][number].picture for name in SHOWN if name in qualities}
        for name, picture in (pictures | {"clean": sample.clean}).items():
            (folder / f"{sample.sample_id} {name}.png").write_bytes(encode(picture))


def _figures(summary: Mapping, truths, answers: Answers, qualities, taxonomy: Taxonomy) -> dict[str, figures.Figure]:
    columns = {"before": summary["before"]["types"]} if "before" in summary else {}
    after = readings(answers["after"])
    found = {
        "radar": figures.radar(columns | {"after": summary["types"]}),
        "confusion": figures.confusion(summary["confusion"]),
        "keys": figures.keys(summary["key_distribution"]),
        "values": figures.values(truths, after, taxonomy),
    }
    if qualities:
        from benchmarks.quality.analysis import tolerance
        from benchmarks.quality.report import figures_restoration

        points = tolerance.points(truths, after, qualities)
        for measure in tolerance.MEASURES:
            if points and measure in points[0]:
                found[f"tolerance_{measure}"] = figures_restoration.tolerance(points, measure, taxonomy)
        if summary["bias"]:
            found["bias"] = figures_restoration.bias(summary["bias"])
    return found


def _tables(summary: Mapping) -> dict[str, list[dict]]:
    """Every table as records of numbers."""
    columns = ({"before": summary["before"]} if "before" in summary else {}) | {"after": summary}
    measures = ("t_acc", "t_f1", "j_acc", "p_abs", "p_rel")
    headline = {
        name: {m: {"value": c[m], "interval": c["intervals"].get(m, ())} for m in measures}
        for name, c in columns.items()
    }
    bounds = summary["bounds"]
    return {
        "understanding": records.flatten(headline, ["column", "measure"]),
        "table1": records.flatten({name: c["keys"] for name, c in columns.items()}, ["column", "key"]),
        "types": records.flatten({name: c["types"] for name, c in columns.items()}, ["column", "type"]),
        "decoding": records.flatten(summary.get("decoding", {}).get("keys", {}), ["key"]),
        "table2": records.flatten(summary.get("restoration", {}), ["type", "column"]),
        "table3": records.flatten(summary.get("no_reference", {}), ["type", "column"]),
        "tolerance": records.flatten(summary.get("tolerance", {}), ["key", "measure"]),
        "bias": records.flatten(summary.get("bias", {}), ["score", "key"]),
        "classification_bounds": records.flatten(bounds["classification"], ["delta"]),
        "regression_bounds": records.flatten(bounds["regression"], ["delta", "key"]),
        "likelihood": records.flatten(bounds["likelihood"], ["delta", "key"]),
    }
