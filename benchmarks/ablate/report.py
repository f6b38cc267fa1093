"""What a study leaves in its folder: table.md beside the paper's numbers, table.csv, plot.png, then summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.ablate.studies import Study
from benchmarks.quality.report import style
from benchmarks.quality.report.table import Table, with_interval, write_csv
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
AXES = {"j_acc": "J-Acc", "p_rel": "P-Rel", "p_abs": "P-Abs, units of the keys", "psnr": "PSNR (dB)"}


def write(out: Path, study: Study, summary: Mapping) -> None:
    """Writes the four files."""
    write_csv(out / "table.csv", _records(summary))
    write_atomically(out / "table.md", markdown(study, summary))
    plot(study, summary, out / "plot.png")
    write_atomically(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")


def markdown(study: Study, summary: Mapping) -> str:
    """Returns the tables: measures of each variant beside the paper's, P-Rel of each key, and the differences."""
    variants = summary["variants"]
    there = next(iter(variants.values()))["measures"]
    measures = [name for name in TITLES if name in there and (name != "p_abs" or name in study.measures)]
    keys = [name for name in there if name.endswith(".p_rel")]
    main = [["", *(TITLES[name] for name in measures), "seeds", "minutes", "paper: J-Acc, P-Rel, PSNR"]]
    each = [["P-Rel ↓", *(name.removesuffix(".p_rel").replace("_", " ") for name in keys)]]
    for variant in variants.values():
        cells = [_written(name, variant["measures"][name]) for name in measures]
        minutes = ", ".join(f"{seconds / 60:.0f}" for seconds in variant["seconds"] if seconds)
        main.append([variant["title"], *cells, str(len(variant["seeds"])), minutes, _paper(variant["paper"])])
        each.append([variant["title"], *(_written(name, variant["measures"][name]) for name in keys)])
    apart = [["difference", *(TITLES[name] for name in measures), "seeds"]]
    for pair, difference in summary["differences"].items():
        cells = [_written(name, difference["measures"][name], sign="+") for name in measures]
        apart.append([pair.replace("_", " "), *cells, str(len(difference["seeds"]))])
    paper = [["the paper's, trained by SFT and RL", "J-Acc, P-Rel, PSNR"]]
    paper += [[title, _paper(row)] for title, row in summary["paper"].items()]
    caption = (
        f"{summary['samples']} {summary['split']} samples, {summary['steps']} steps. In brackets 95 % intervals over "
        "seeds and samples; differences in pairs of the same seed and sample. P-Rel as decoded "
        f"({summary['decoding']}), by the posterior's argmax and median, and expected of an answer sampled at "
        "temperature 1. Minutes: wall time of the steps of each training."
    )
    tables = "\n\n".join(Table.of("", rows).markdown() for rows in (main, each, apart, paper) if len(rows) > 1)
    return f"# {study.title}\n\n{tables}\n\n{caption}\n"


@style.styled()
def plot(study: Study, summary: Mapping, file: Path) -> None:
    """Draws a panel a measure as a PNG: a point with its interval a variant, or a curve over the steps of a grid.

    Thick lines are intervals, thin marks single seeds.
    """
    variants = summary["variants"]
    steps = {name: study.variant(name).settings.get("world.step_scale") for name in variants}
    curve = all(steps.values())
    height = 2.6 if curve else 0.9 + 0.45 * len(variants)
    figure, axes = style.grid(len(study.measures), len(study.measures), 3.2, height)
    for axis, measure in zip(axes, study.measures, strict=True):
        if curve:
            _draw_curve(axis, [0.01 * step for step in steps.values()], list(variants.values()), measure)
        else:
            _draw_rows(axis, list(variants.values()), measure, named=axis is axes[0])
    figure.suptitle(study.title)
    figure.savefig(file, dpi=150)
    style.plt.close(figure)


def _draw_rows(axis, variants: Sequence[Mapping], measure: str, named: bool) -> None:
    for row, variant in enumerate(variants):
        value, low, high = variant["measures"][measure]
        colour = style.CYCLE[row % len(style.CYCLE)]
        axis.plot([low, high], [row, row], color=colour, linewidth=2)
        axis.plot(variant["by_seed"][measure], [row] * len(variant["seeds"]), "|", color=colour, markersize=8)
        axis.plot(value, row, "o", color=colour)
    axis.set_yticks(range(len(variants)), [variant["title"] if named else "" for variant in variants])
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.set_xlabel(AXES[measure])


def _draw_curve(axis, steps: Sequence[float], variants: Sequence[Mapping], measure: str) -> None:
    intervals = [variant["measures"][measure] for variant in variants]
    axis.plot(steps, [value for value, _, _ in intervals], "o-", color=style.BLUE, linewidth=1)
    for step, (_, low, high), variant in zip(steps, intervals, variants, strict=True):
        axis.plot([step, step], [low, high], color=style.BLUE, linewidth=2)
        axis.plot([step] * len(variant["seeds"]), variant["by_seed"][measure], "_", color=style.BLUE, markersize=8)
    axis.set_xscale("log")
    axis.set_xticks(steps, [f"{step:g}" for step in steps])
    axis.minorticks_off()
    axis.set_xlabel("Δ (gain: a tenth)")
    axis.set_ylabel(AXES[measure])


def _written(name: str, measure: Sequence[float], sign: str = "") -> str:
    return with_interval(measure[0], measure[1:], 2 if name == "psnr" else 4, sign)


def _paper(row: Mapping[str, float]) -> str:
    return ", ".join(f"{value:g}" for value in row.values())


def _records(summary: Mapping) -> list[dict]:
    """A line a variant or difference, and measure."""
    records = []
    for name, row in {**summary["variants"], **summary["differences"]}.items():
        for measure, (value, low, high) in row["measures"].items():
            record = {"variant": name, "measure": measure, "value": value, "low": low, "high": high}
            paper = row.get("paper", {}).get(measure, "")
            records.append(record | {"seeds": len(row["seeds"]), "paper": paper})
    return records
