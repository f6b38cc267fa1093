"""The tables, figures and page of several evaluations beside each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.quality.report import figures, html, tables
from benchmarks.quality.report.table import Table, flatten, with_interval, write_csv
from configs.run_folders import write_atomically

MEASURES = ("j_acc", "p_abs", "p_rel", "psnr")
"""What the table of differences shows; summary.json has all."""


def write(folder: Path, summary: Mapping) -> None:
    """Writes FOLDER/tables, figures and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    made, drawn = comparison_tables(summary), {}
    for name, table in made.items():
        table.write_csv(folder / "tables" / f"{name}.csv")
    for name, (svg, records) in comparison_figures(summary).items():
        (folder / "figures").mkdir(exist_ok=True)
        write_atomically(folder / "figures" / f"{name}.svg", svg)
        write_csv(folder / "figures" / f"{name}.csv", records)
        drawn[name] = svg
    anchors = {name: anchor(name) for name in summary["columns"]}
    macros = html.macros("comparison.html.jinja", summary=summary, tables=made, figures=drawn, anchors=anchors)
    sections = [
        html.Section(name, title, getattr(macros, name)())
        for name, title in (
            ("understanding", f"Understanding: {summary['samples']} samples"),
            ("values", "Table 1: parameter values"),
            ("differences", "Differences"),
            ("restoration", "Table 2: restoration"),
        )
        if name != "restoration" or "table2" in made
    ]
    write_atomically(folder / "report.html", html.document(" and ".join(anchors), sections))


def show(summary: Mapping) -> None:
    """Prints the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    for table in comparison_tables(summary).values():
        table.print(console)


def comparison_tables(summary: Mapping) -> dict[str, Table]:
    """Returns {name of the CSV: table}."""
    columns, names = summary["columns"], tables.NAMES
    rows = [["answers", *names.values(), "invalid"]]
    for name, column in columns.items():
        cells = [with_interval(column[measure], column["intervals"].get(measure)) for measure in names]
        rows.append([name, *cells, str(sum(column["invalid"].values()))])
    records = {
        name: {m: {"value": column[m], "interval": column["intervals"].get(m, ())} for m in names}
        for name, column in columns.items()
    }
    made = {
        "understanding": Table.of("Understanding (95 % intervals)", rows, flatten(records, "column", "measure")),
        "table1": tables.table1(columns, summary["zero_prediction"]),
        "differences": _differences(summary),
    }
    if means := summary["restoration"]:
        shown = [["restored with the answers of", *(tables.type_name(kind) for kind in means)]]
        for name in means["all"]:
            shown.append([name, *(with_interval(k[name]["psnr"], k[name]["psnr_interval"], 2) for k in means.values())])
        made["table2"] = Table.of("Restoration, PSNR (dB)", shown, flatten(means, "type", "column"))
    return made


def comparison_figures(summary: Mapping) -> dict[str, figures.Figure]:
    """Returns {name: figure}: one radar of all, a confusion and a distribution of keys of each."""
    columns = summary["columns"]
    drawn = {"radar": figures.radar({name: column["types"] for name, column in columns.items()})}
    for name, column in columns.items():
        drawn[f"confusion_{anchor(name)}"] = figures.confusion(column["confusion"])
        drawn[f"keys_{anchor(name)}"] = figures.keys(column["key_distribution"])
    return drawn


def anchor(name: str) -> str:
    """Turns the name of an evaluation into that of a file."""
    return re.sub(r"\W+", "_", name)


def _differences(summary: Mapping) -> Table:
    apart = summary["differences"]
    measures = [name for name in MEASURES if any(name in gains for gains in apart.values())]
    titles = tables.NAMES | {"psnr": "PSNR (dB)"}
    rows = [["difference", *(titles[name] for name in measures)]]
    for pair, gains in apart.items():
        cells = [with_interval(gains[m][0], gains[m][1:], sign="+") if m in gains else "" for m in measures]
        rows.append([pair, *cells])
    records = [
        {"pair": pair, "measure": name, "difference": gain[0], "low": gain[1], "high": gain[2]}
        for pair, gains in apart.items()
        for name, gain in gains.items()
    ]
    return Table.of("Differences in pairs of samples (95 % intervals)", rows, records)
