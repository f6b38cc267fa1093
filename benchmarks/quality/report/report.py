"""Writes report.html of a run: one file, no outside resources; its evaluation, then the curves of its training jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.quality.report import html
from benchmarks.quality.report import tables as paper_tables
from benchmarks.quality.report.pictures import strips
from benchmarks.quality.report.style import curves
from benchmarks.quality.report.table import with_interval
from configs.run_folders import read_metrics, write_atomically

SECTIONS = {
    "understanding": "Understanding: {samples} samples",
    "values": "Table 1: parameter values",
    "decoding": "How a number is read off its posterior",
    "restoration": "Table 2: restoration",
    "no_reference": "Table 3: no-reference scores",
    "pictures": "Pictures",
    "tolerance": "Figures 6, 10, 11: tolerance to parameter errors",
    "bias": "What no-reference scores prefer",
    "nuisances": "Nuisances: the same samples as real files have them",
    "bounds": "Propositions 4.1 and 4.2 as numbers",
}
"""{macro of evaluation.html.jinja: heading}."""
JOBS = ("prior", "sft", "offline", "online")
FIRST = ("reward", "loss", "gate", "kl", "mismatch", "staleness", "val", "seconds", "busy", "idle")
PLOTS = 30


def write_report(run_folder: Path) -> Path:
    """Writes RUN_FOLDER/report.html from what is there: its jobs' metrics.jsonl and its evaluation."""
    run_folder = Path(run_folder)
    folders = (run_folder / "evaluate", run_folder)
    evaluation = next((f for f in folders if (f / "answers.jsonl").is_file()), None)
    lead, sections = _evaluation(evaluation) if evaluation else ("", [])
    sections += [section for job in JOBS for section in _training(run_folder / job)]
    file = run_folder / "report.html"
    write_atomically(file, html.document(run_folder.resolve().name, sections, lead))
    return file


def _evaluation(folder: Path) -> tuple[str, list[html.Section]]:
    """(what is above the sections, the sections) that the files in `folder` allow."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    likelihood = summary["bounds"]["likelihood"]
    biases = next(iter(summary.get("bias", {}).values()), {})
    macros = html.macros(
        "evaluation.html.jinja",
        summary=summary,
        tables=paper_tables.evaluation_tables(summary),
        figures={file.stem: file.read_text() for file in (folder / "figures").glob("*.svg")},
        strips=strips(folder, rows),
        verdict=paper_tables.verdict(summary),
        bias_samples=max((cell["samples"] for cell in biases.values()), default=0),
        densities_known=any(c["measured"] is not None for cells in likelihood.values() for c in cells.values()),
        with_interval=with_interval,
    )
    bodies = {name: getattr(macros, name)().strip() for name in SECTIONS}
    sections = [
        html.Section(name.replace("_", "-"), title.format(samples=summary["samples"]), bodies[name])
        for name, title in SECTIONS.items()
        if bodies[name]
    ]
    return macros.lead(), sections


def _training(folder: Path) -> list[html.Section]:
    lines = read_metrics(folder / "metrics.jsonl")
    series: dict[str, tuple[list, list]] = {}
    for line in lines:
        for name, value in _numbers(line):
            steps, values = series.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(value)
    ordered = sorted(series, key=_importance)[:PLOTS]
    series = {name: series[name] for name in ordered if len(set(series[name][1])) > 1}
    if not series:
        return []
    config = folder / "config.yaml"
    settings = html.details("settings", config.read_text()) if config.is_file() else ""
    title = f"Training: {folder.name}, {lines[-1]['step']} steps"
    plots = html.figure(curves(series), f"curves of {folder.name}", f"{folder.name}/metrics.jsonl")
    return [html.Section(folder.name, title, plots + settings)]


def _numbers(line: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and prefix + name not in ("step", "time"):
            yield prefix + name, float(value)


def _importance(name: str) -> tuple:
    return next((i for i, word in enumerate(FIRST) if word in name), len(FIRST)), name
