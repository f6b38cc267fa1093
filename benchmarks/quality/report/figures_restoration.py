"""Figures of restoration: what parameter errors cost (Figures 6, 10, 11), and what no-reference scores would prefer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from benchmarks.quality.analysis.tolerance import correlate
from benchmarks.quality.measures import label
from benchmarks.quality.report import style
from benchmarks.quality.report.figures import Figure
from envs.taxonomy import Taxonomy

UNITS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}


@style.styled()
def tolerance(points: Sequence[Mapping], measure: str, taxonomy: Taxonomy) -> Figure:
    """Draws two rows of plots, one a key: |error| against the measure, and against what the error changed.

    The titles say Pearson's r (the paper's) and Spearman's rho; the line is the least-squares fit.
    """
    names = list(dict.fromkeys(point["key"] for point in points))
    figure, axes = style.plt.subplots(
        2, len(names), figsize=(2.35 * len(names), 4.6), squeeze=False, layout="constrained"
    )
    everything = [point[measure] for point in points]
    margin = 0.05 * (max(everything) - min(everything)) or 1
    for column, name in zip(axes.T, names, strict=True):
        mine = [point for point in points if point["key"] == name]
        errors = [point["error"] for point in mine]
        for axis, quantity in zip(column, (measure, f"{measure}_change"), strict=True):
            numbers = [point[quantity] for point in mine]
            axis.plot(errors, numbers, "o", color=style.BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0,
                      rasterized=len(mine) > 500)  # fmt: skip
            correlation = correlate(errors, numbers)
            if correlation["pearson"]:
                slope, start = np.polyfit(errors, numbers, 1)
                ends = np.array([min(errors), max(errors)])
                axis.plot(ends, start + slope * ends, color=style.RED, linewidth=1.3)
                axis.set_title(f"r = {correlation['pearson'][0]:.2f}, ρ = {correlation['spearman'][0]:.2f}")
            else:
                axis.set_title("no spread")
            axis.set_xlim(left=0, right=None if max(errors) > 0 else 1)
            axis.xaxis.set_major_locator(MaxNLocator(3))
        column[0].set_ylim(min(everything) - margin, max(everything) + margin)  # one scale, as in the paper
        column[1].set_xlabel(style.label(taxonomy.keys[name], "|error| of "))
    axes[0, 0].set_ylabel(UNITS[measure])
    axes[1, 0].set_ylabel(f"{UNITS[measure]}, change\nagainst true parameters")
    columns = ("sample", "type", "key", "error", "relative", measure, f"{measure}_change")
    return style.svg(figure), [{name: point[name] for name in columns} for point in points]


@style.styled()
def bias(summary: Mapping[str, Mapping[str, Mapping]]) -> Figure:
    """Draws a row a score, a column a key: the standardised score (up is better) over the factor of the parameter."""
    names, keys = list(summary), list(next(iter(summary.values())))
    figure, axes = style.plt.subplots(
        len(names), len(keys), figsize=(1.9 * len(keys), 1.6 * len(names) + 0.4),
        squeeze=False, sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    records = []
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(label(name))
        for axis, key in zip(row, keys, strict=True):
            curve = {float(factor): value for factor, value in summary[name][key]["curve"].items()}
            records += [{"score": name, "key": key, "factor": f, "standardised": v} for f, v in curve.items()]
            axis.axvline(1, color=style.GREY, linewidth=0.8)
            axis.plot(curve.keys(), curve.values(), color=style.BLUE, marker="o", markersize=3, linewidth=1.3)
            if (best := summary[name][key]["optimum"]) is not None:
                right = best == 1
                axis.plot(best, curve[best], "o" if right else "X", markersize=8, markeredgewidth=0,
                          color=style.GREEN if right else style.RED)  # fmt: skip
    for axis, key in zip(axes[0], keys, strict=True):
        axis.set_title(key.replace("_", " "))
    figure.supxlabel("factor on the true parameter", fontsize=9)
    return style.svg(figure), records
