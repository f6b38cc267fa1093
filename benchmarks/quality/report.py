"""report.html of a run: one file, no outside resources; tables, curves, pictures with the answer in words."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality import figures, tables
from envs import answer
from envs.taxonomy import Degradation, taxonomy
from learner.runlog import read_metrics, write_atomically

JOBS = ("prior", "sft", "offline", "online")
FIRST = ("reward", "loss", "gate", "kl", "mismatch", "staleness", "val", "seconds", "busy", "idle")
PLOTS = 30
TITLES = {"before": "restored, before", "after": "restored, answered parameters"}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .25rem .8rem; text-align: right } th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: #f5f7f9 } th { border-bottom: 2px solid #0072B2 }
figure { margin: 0; width: 150px; font-size: .75rem; color: #555 }
figure img { width: 150px; image-rendering: pixelated; display: block }
.row { display: flex; flex-wrap: wrap; gap: .6rem; margin-top: 1rem }
.words { font-size: .9rem; margin: .3rem 0 }
.verdict { background: #eef5fa; border-left: 4px solid #0072B2; padding: .6rem 1rem }
svg { max-width: 100%; height: auto }
pre { background: #f5f7f9; padding: 1rem; overflow: auto; font-size: .8rem }
.scroll { overflow-x: auto }
"""


def write_report(run_folder: Path) -> Path:
    """Writes RUN_FOLDER/report.html from what is there: its jobs' metrics.jsonl and its evaluation."""
    run_folder = Path(run_folder)
    evaluation = next(
        (f for f in (run_folder / "evaluate", run_folder) if (f / "answers.jsonl").is_file()), None
    )
    parts = _evaluation(evaluation) if evaluation else []
    for job in JOBS:
        parts += _training(run_folder / job)
    name = html.escape(run_folder.resolve().name)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
        f"<h1>{name}</h1>{''.join(parts) or '<p>Nothing was measured yet.</p>'}</html>\n"
    )
    file = run_folder / "report.html"
    write_atomically(file, page)
    return file


def words(degradation: Mapping | None) -> str:
    """What an answer says, for example `Severe blur degradation: sigma 3.20 px.`"""
    if degradation is None:
        return "no valid answer"
    found = Degradation(degradation["type"], tuple(degradation["values"].items()))
    keys = taxonomy(camera=True).keys
    return f"{answer.rationale(found)[:-1]}: {', '.join(_value(keys[n], v) for n, v in found.values)}."


def _value(key, value) -> str:
    unit = f" {key.unit}" if key.unit == "px" else ""
    if isinstance(value, list):
        return f"{key.name.replace('_', ' ')} {json.dumps(value)}"
    return f"{key.name.replace('_', ' ')} {value:.{key.decimals}f}{unit}"


def _evaluation(folder: Path) -> list[str]:
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    parts = []
    if verdict := tables.verdict(summary):
        parts.append(f'<p class="verdict">{html.escape(verdict)}</p>')
    split = html.escape(summary["split"])
    parts.append(f"<h2>Understanding: {summary['samples']} {split} samples</h2>")
    parts.append("<p>95 % bootstrap intervals over samples. P-Abs and P-Rel: lower is better.</p>")
    parts.append(_table(tables.understanding(summary)))
    if invalid := summary["invalid"]:
        listed = ", ".join(f"{reason} {count}" for reason, count in invalid.items())
        parts.append(f"<p>Without a valid answer: {html.escape(listed)}.</p>")
    if summary.get("restoration"):
        parts.append("<h2>Restoration</h2>" + _table(tables.restoration(summary)))
    parts += _pictures(folder, rows)
    parts.append("<h2>Types and values</h2>")
    parts.append("<p>Orange ticks: true values whose answer had another type or was invalid.</p>")
    parts += [file.read_text() for file in sorted((folder / "figures").glob("*.svg"))]
    return parts


def _pictures(folder: Path, rows: Sequence[Mapping]) -> list[str]:
    parts = []
    for row in rows:
        shown = [name for name in ("not restored", "before", "after", "true parameters", "clean")
                 if (folder / "pictures" / f"{row['sample_id']} {name}.png").is_file()]  # fmt: skip
        if not shown:
            continue
        parts = parts or ["<h2>Pictures</h2>"]
        parts.append('<div class="row">')
        for name in shown:
            data = base64.b64encode(
                (folder / "pictures" / f"{row['sample_id']} {name}.png").read_bytes()
            ).decode()
            psnr = f", {row['psnr'][name]:.1f} dB" if name in row["psnr"] else ""
            title = html.escape(TITLES.get(name, "degraded" if name == "not restored" else name) + psnr)
            parts.append(f'<figure><img alt="{title}" src="data:image/png;base64,{data}">{title}</figure>')
        said = [f"Truth: {words(row['truth'])}"]
        said += [f"Answer {n}: {words(row[n]['degradation'])}" for n in ("before", "after") if n in row]
        parts.append(f'</div><p class="words">{"<br>".join(map(html.escape, said))}</p>')
    return parts


def _training(folder: Path) -> list[str]:
    lines = read_metrics(folder / "metrics.jsonl")
    series: dict[str, tuple[list, list]] = {}
    for line in lines:
        for name, value in _numbers(line):
            steps, values = series.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(value)
    series = {
        name: series[name]
        for name in sorted(series, key=_importance)[:PLOTS]
        if len(set(series[name][1])) > 1
    }
    if not series:
        return []
    config = folder / "config.yaml"
    settings = html.escape(config.read_text()) if config.is_file() else ""
    details = f"<details><summary>settings</summary><pre>{settings}</pre></details>" if settings else ""
    return [f"<h2>Training: {folder.name}, {lines[-1]['step']} steps</h2>", figures.curves(series), details]


def _numbers(line: Mapping, prefix: str = ""):
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and prefix + name not in ("step", "time"):
            yield prefix + name, float(value)


def _importance(name: str) -> tuple:
    return next((i for i, word in enumerate(FIRST) if word in name), len(FIRST)), name


def _table(rows: tables.Rows) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    return f'<div class="scroll"><table>{line(rows[0], "th")}{body}</table></div>'
