"""What a study leaves: summary.json, table.csv, table.md beside the paper's numbers, plot.png. Pure but for writing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.ablate.intervals import Bootstrap, Interval
from benchmarks.ablate.plot import plot
from benchmarks.ablate.study import Cell, Study
from benchmarks.ablate.terms import Terms
from benchmarks.quality.report.records import write_csv
from configs.run_folders import write_atomically

TITLES = {
    "j_acc": "J-Acc ↑",
    "p_rel": "P-Rel ↓",
    "p_rel_argmax": "P-Rel, argmax",
    "p_rel_median": "P-Rel, median",
    "p_rel_sampled": "P-Rel, sampled",
    "p_abs": "P-Abs ↓",
    "psnr": "PSNR (dB) ↑",
}
"""Columns of the tables; P-Abs, a mean over unlike units, only where the paper has it."""
DIGITS = {"j_acc": 4, "t_acc": 4, "psnr": 2}


def summarise(
    study: Study, found: Mapping[Cell, Terms], seconds: Mapping[Cell, float], about: Mapping, seed: int = 0
) -> dict:
    """The content of summary.json.

    found: the terms of the finished cells; seconds: the wall time of their steps; about: settings to name.
    Returns {"study", **about, "variants": {name: {"title", "seeds", "seconds": [...], "measures": {measure: [mean,
    low, high]}, "by_seed": {measure: [...]}, "paper"}}, "differences": {"ONE - OTHER": {"seeds", "measures": the
    same}}}; differences over the seeds that both have.
    """
    bootstrap = Bootstrap(len(next(iter(found.values()))["j_acc"]), seed)
    measured = {cell: bootstrap.measures(terms) for cell, terms in found.items()}
    variants = {}
    for variant in study.variants:
        mine = {cell: measures for cell, measures in measured.items() if cell.variant == variant.name}
        if mine:
            columns = list(mine.values())
            variants[variant.name] = {
                "title": variant.title,
                "seeds": [cell.seed for cell in mine],
                "seconds": [seconds[cell] for cell in mine],
                "measures": bootstrap.values(columns),
                "by_seed": {name: [float(column[name][0]) for column in columns] for name in columns[0]},
                "paper": dict(variant.paper),
            }
    differences = {}
    for one, other in _pairs(study, variants):
        seeds = _shared(variants[one]["seeds"], variants[other]["seeds"])
        columns = [[_of(measured, name, seed) for seed in seeds] for name in (one, other)]
        if seeds:
            differences[f"{one} - {other}"] = {"seeds": seeds, "measures": bootstrap.differences(*columns)}
    return {"study": study.name, **about, "variants": variants, "differences": differences}


def write(out: Path, study: Study, summary: Mapping) -> None:
    """Writes the four files, summary.json last."""
    write_csv(out / "table.csv", _records(summary))
    write_atomically(out / "table.md", markdown(study, summary))
    plot(study, summary, out / "plot.png")
    write_atomically(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")


def markdown(study: Study, summary: Mapping) -> str:
    """The tables: measures of each variant beside the paper's, P-Rel of each key, and the differences."""
    variants = summary["variants"]
    there = next(iter(variants.values()))["measures"]
    measures = [name for name in TITLES if name in there and (name != "p_abs" or name in study.measures)]
    keys = [name for name in there if name.endswith(".p_rel")]
    main = [["", *(TITLES[name] for name in measures), "seeds", "minutes", "paper: J-Acc, P-Rel, PSNR"]]
    each = [["P-Rel ↓", *(name.removesuffix(".p_rel").replace("_", " ") for name in keys)]]
    for found in variants.values():
        cells = [_written(name, found["measures"][name]) for name in measures]
        minutes = ", ".join(f"{seconds / 60:.0f}" for seconds in found["seconds"] if seconds)
        paper = ", ".join(f"{value:g}" for value in found["paper"].values())
        main.append([found["title"], *cells, str(len(found["seeds"])), minutes, paper])
        each.append([found["title"], *(_written(name, found["measures"][name]) for name in keys)])
    apart = [["difference", *(TITLES[name] for name in measures), "seeds"]]
    for pair, found in summary["differences"].items():
        cells = [_written(name, found["measures"][name], sign="+") for name in measures]
        apart.append([pair.replace("_", " "), *cells, str(len(found["seeds"]))])
    caption = (
        f"{summary['samples']} {summary['split']} samples, {summary['steps']} steps. In brackets 95 % intervals over "
        "seeds and samples; differences in pairs of the same seed and sample. P-Rel as decoded "
        f"({summary['decoding']}), by the posterior's argmax and median, and expected of an answer sampled at "
        "temperature 1. Minutes: wall time of the steps of each training."
    )
    tables = "\n\n".join(_table(rows) for rows in (main, each, apart) if len(rows) > 1)
    return f"# {study.title}\n\n{tables}\n\n{caption}\n"


def _pairs(study: Study, there: Mapping) -> list[tuple[str, str]]:
    """(variant, what it is compared with), each pair once, in the order of the study."""
    found: list[tuple[str, str]] = []
    for other in study.against:
        for one in (variant.name for variant in study.variants):
            if one != other and {one, other} <= set(there) and (other, one) not in found:
                found.append((one, other))
    return found


def _shared(one: Sequence, other: Sequence) -> list:
    """The seeds of both; of a variant without seeds, those of the other."""
    if None in one or None in other:
        return [seed for seed in [*one, *other] if seed is not None]
    return [seed for seed in one if seed in other]


def _of(measured: Mapping[Cell, Mapping], variant: str, seed: int) -> Mapping:
    return measured.get(Cell(variant, seed)) or measured[Cell(variant, None)]


def _written(name: str, interval: Interval, sign: str = "") -> str:
    digits = DIGITS.get(name, 4)
    value, low, high = (f"{number:{sign}.{digits}f}" for number in interval)
    return f"{value} [{low}, {high}]"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _records(summary: Mapping) -> list[dict]:
    """A line a variant or difference, and measure."""
    records = []
    for name, found in {**summary["variants"], **summary["differences"]}.items():
        for measure, (value, low, high) in found["measures"].items():
            record = {"variant": name, "measure": measure, "value": value, "low": low, "high": high}
            paper = found.get("paper", {}).get(measure, "")
            records.append(record | {"seeds": len(found["seeds"]), "paper": paper})
    return records
