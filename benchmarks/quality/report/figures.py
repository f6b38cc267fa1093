"""Figures of understanding: radar (Figure 4), confusion of types (8), answered keys (9), true against answered values.

Each function draws one and returns (svg, records): the figure and the numbers it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.quality.report import style
from benchmarks.quality.report.tables import NAMES, type_name
from envs.language.reading import Reading
from envs.taxonomy import Degradation, Taxonomy

Figure = tuple[str, list[dict]]


@style.styled()
def radar(types: Mapping[str, Mapping[str, Mapping]]) -> Figure:
    """Draws T-Acc, T-F1 and J-Acc of each type and their mean, a polygon a column ({column: {type: measures}})."""
    kinds = list(next(iter(types.values())))
    spokes = [*(style.short(kind) for kind in kinds), "mean"]
    angles = np.linspace(0, 2 * np.pi, len(spokes) + 1)
    figure = style.plt.figure(figsize=(10.2, 3.6), layout="constrained")
    records = []
    for place, measure in enumerate(("t_acc", "t_f1", "j_acc"), 1):
        axis = figure.add_subplot(1, 3, place, projection="polar")
        axis.set_theta_zero_location("N")
        for (name, column), colour, marker in zip(types.items(), style.CYCLE, style.MARKERS, strict=False):
            values = [column[kind][measure] for kind in kinds]
            values.append(float(np.mean(values)))
            records += [
                {"measure": measure, "column": name, "type": kind, "value": value}
                for kind, value in zip([*kinds, "mean"], values, strict=True)
            ]
            axis.plot(angles, [*values, values[0]], color=colour, marker=marker, markersize=4, label=name)
            axis.fill(angles, [*values, values[0]], color=colour, alpha=0.12)
        axis.set_xticks(angles[:-1], spokes)
        axis.tick_params(axis="x", pad=9)
        axis.set_ylim(0, 1)
        axis.set_yticks([0.25, 0.5, 0.75, 1.0], ["", ".5", "", "1"], color="#666666", fontsize=7)
        axis.grid(color="#cccccc", linewidth=0.6)
        axis.spines["polar"].set_visible(False)
        axis.set_title(NAMES[measure], loc="center")
    if len(types) > 1:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return style.svg(figure), records


@style.styled()
def confusion(table: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draws true types as rows (each sums to 1), answered types as columns; cells show counts."""
    table = {truth: row for truth, row in table.items() if any(row.values())}
    counts = np.array([list(row.values()) for row in table.values()], dtype=float)
    answered = list(next(iter(table.values())))
    figure, axis = style.plt.subplots(
        figsize=(1.4 + 0.8 * len(answered), 0.55 * len(table) + 1.1), layout="constrained"
    )
    axis.imshow(counts / counts.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(answered)), [style.short(name) for name in answered])
    axis.set_yticks(range(len(table)), [type_name(name) for name in table])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for (i, j), count in np.ndenumerate(counts):
        dark = count > counts[i].sum() / 2
        axis.text(j, i, f"{count:.0f}", ha="center", va="center", color="white" if dark else "#444444")
    axis.set_xlabel("answered type")
    axis.set_ylabel("true type")
    records = [{"true": t, "answered": a, "count": n} for t, row in table.items() for a, n in row.items()]
    return style.svg(figure), records


@style.styled()
def keys(distribution: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draws Figure 9: a bar a true type, divided by the keys that were answered, per cent."""
    names = [n for n in next(iter(distribution.values())) if any(row[n] for row in distribution.values())]
    figure, axis = style.plt.subplots(figsize=(8.2, 0.5 * len(distribution) + 1.2), layout="constrained")
    left = np.zeros(len(distribution))
    totals = np.array([max(1, sum(row.values())) for row in distribution.values()])
    colours = dict(zip([*next(iter(distribution.values()))], style.CYCLE, strict=False))
    for name in names:
        share = 100 * np.array([row[name] for row in distribution.values()]) / totals
        axis.barh(
            range(len(distribution)), share, left=left, height=0.62, label=name.replace("_", " "),
            color=colours.get(name, style.GREY), edgecolor="white", linewidth=1,
        )  # fmt: skip
        left += share
    axis.set_yticks(range(len(distribution)), [type_name(kind) for kind in distribution])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("answered keys (% of all keys named)")
    axis.set_ylabel("true type")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 if len(names) < 8 else 2)
    records = [
        {"true": kind, "key": name, "count": count} for kind, row in distribution.items() for name, count in row.items()
    ]
    return style.svg(figure), records


@style.styled()
def values(truths: Sequence[Degradation], readings: Sequence[Reading], taxonomy: Taxonomy) -> Figure:
    """Draws true against answered value, a plot a key; answers of a wrong type or none are ticks below."""
    shown = [key for key in taxonomy.keys.values() if any(key.name in dict(truth.values) for truth in truths)]
    figure, axes = style.grid(len(shown), 3, 3.2, 2.6)
    records = []
    for axis, key in zip(axes, shown, strict=True):
        mine = _values_of(key.name, truths, readings)
        records += mine
        right = [(r["true"], r["answered"]) for r in mine if r["answered"] is not None]
        lost = [r["true"] for r in mine if r["answered"] is None]
        ends = [number for pair in right for number in pair] + lost
        low, high = min(ends), max(ends)
        axis.plot([low, high], [low, high], color=style.GREY, linewidth=0.8)
        axis.plot(*(zip(*right, strict=True) if right else ([], [])), "o", color=style.BLUE, markersize=3.5,
                  alpha=0.5, markeredgewidth=0, rasterized=len(right) > 500)  # fmt: skip
        axis.plot(lost, [low] * len(lost), "|", color=style.RED, markersize=9)
        axis.set_title(style.label(key))
        axis.set_xlabel("true")
        axis.set_ylabel("answered")
    return style.svg(figure), records


def _values_of(key: str, truths: Sequence[Degradation], readings: Sequence[Reading]) -> list[dict]:
    records = []
    for number, (truth, reading) in enumerate(zip(truths, readings, strict=True)):
        if key not in dict(truth.values):
            continue
        target = np.ravel(truth[key]).tolist()
        right = reading.degradation is not None and reading.degradation.type == truth.type
        answered = np.ravel(reading.degradation[key]).tolist() if right else [None] * len(target)
        records += [
            {"sample": number, "key": key, "true": t, "answered": a} for t, a in zip(target, answered, strict=True)
        ]
    return records
