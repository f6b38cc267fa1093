"""report.html of a run: one file, no outside resources; its evaluation, then the curves of its training jobs."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.quality.report import evaluation as report_evaluation
from benchmarks.quality.report import html as page
from benchmarks.quality.report.curves import curves
from configs.run_folders import read_metrics, write_atomically

JOBS = ("prior", "sft", "offline", "online")
FIRST = ("reward", "loss", "gate", "kl", "mismatch", "staleness", "val", "seconds", "busy", "idle")
PLOTS = 30


def write_report(run_folder: Path) -> Path:
    """Writes RUN_FOLDER/report.html from what is there: its jobs' metrics.jsonl and its evaluation."""
    run_folder = Path(run_folder)
    folders = (run_folder / "evaluate", run_folder)
    evaluation = next((f for f in folders if (f / "answers.jsonl").is_file()), None)
    lead, sections = "", []
    if evaluation:
        summary = json.loads((evaluation / "summary.json").read_text())
        lead, sections = report_evaluation.lead(summary), report_evaluation.sections(evaluation, summary)
    sections += [section for job in JOBS for section in _training(run_folder / job)]
    file = run_folder / "report.html"
    write_atomically(file, page.document(run_folder.resolve().name, sections, lead))
    return file


def _training(folder: Path) -> list[page.Section]:
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
    settings = html.escape(config.read_text()) if config.is_file() else ""
    details = f"<details><summary>settings</summary><pre>{settings}</pre></details>" if settings else ""
    title = f"Training: {folder.name}, {lines[-1]['step']} steps"
    plots = page.figure(curves(series), f"curves of {folder.name}", f"{folder.name}/metrics.jsonl")
    return [page.Section(folder.name, title, plots + details)]


def _numbers(line: Mapping, prefix: str = ""):
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and prefix + name not in ("step", "time"):
            yield prefix + name, float(value)


def _importance(name: str) -> tuple:
    return next((i for i, word in enumerate(FIRST) if word in name), len(FIRST)), name
