"""Figures as SVG text: training curves, the confusion of types, true against answered values.

Colours are those of Okabe and Ito, told apart by everyone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.quality.tables import TYPES  # noqa: E402
from envs.metrics import Reading  # noqa: E402
from envs.taxonomy import Degradation, Taxonomy  # noqa: E402

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "svg.hashsalt": "du-vlm",  # the same figure gives the same file
}


def write(folder: Path, summary: Mapping, truths: Sequence[Degradation], readings: Sequence[Reading],
          taxonomy: Taxonomy) -> None:  # fmt: skip
    """Writes confusion.svg and values.svg of an evaluation into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "confusion.svg").write_text(confusion(summary["confusion"]))
    (folder / "values.svg").write_text(values(truths, readings, taxonomy))


@matplotlib.rc_context(STYLE)
def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], columns: int = 3) -> str:
    """One small plot a series, {title: (steps, values)}; many points get a running mean."""
    rows = -(-len(series) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.4 * columns, 1.9 * rows), squeeze=False, layout="constrained"
    )
    for axis, (title, (steps, numbers)) in zip(axes.flat, series.items(), strict=False):
        many = len(numbers) >= 20
        axis.plot(
            steps,
            numbers,
            color=GREY if many else BLUE,
            linewidth=0.7 if many else 1.4,
            marker="" if many else ".",
        )
        if many:
            width = max(3, len(numbers) // 15)
            mean = np.convolve(numbers, np.ones(width) / width, "valid")
            middle = steps[width // 2 :][: len(mean)]
            axis.plot(middle, mean, color=BLUE, linewidth=1.5)
        axis.set_title(title)
    for axis in axes.flat[len(series) :]:
        axis.set_visible(False)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def confusion(table: Mapping[str, Mapping[str, int]]) -> str:
    """Rows are true types (each sums to 1), columns answered types; cells show counts."""
    table = {truth: row for truth, row in table.items() if any(row.values())}
    counts = np.array([list(row.values()) for row in table.values()], dtype=float)
    answered = list(next(iter(table.values())))
    figure, axis = plt.subplots(figsize=(4.6, 0.55 * len(table) + 1.1), layout="constrained")
    axis.imshow(counts / counts.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(answered)), [TYPES.get(name, name).replace(" ", "\n") for name in answered])
    axis.set_yticks(range(len(table)), [TYPES[name] for name in table])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for (i, j), count in np.ndenumerate(counts):
        dark = count > counts[i].sum() / 2
        axis.text(j, i, f"{count:.0f}", ha="center", va="center", color="white" if dark else "#444444")
    axis.set_xlabel("answered")
    axis.set_ylabel("true")
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def values(truths: Sequence[Degradation], readings: Sequence[Reading], taxonomy: Taxonomy) -> str:
    """True against answered value, a plot a key; answers of a wrong type or none are ticks below."""
    keys = [(kind.name, key) for kind in taxonomy.types for key in kind.keys]
    figure, axes = plt.subplots(
        1, len(keys), figsize=(2.3 * len(keys), 2.4), squeeze=False, layout="constrained"
    )
    for axis, (kind, key) in zip(axes.flat, keys, strict=True):
        pairs = [(t, r) for t, r in zip(truths, readings, strict=True) if t.type == kind]
        right = [(t, r.degradation) for t, r in pairs if r.degradation is not None and r.type == kind]
        true = np.concatenate([np.ravel(t[key.name]) for t, _ in right]) if right else np.empty(0)
        said = np.concatenate([np.ravel(d[key.name]) for _, d in right]) if right else np.empty(0)
        lost = [np.mean(t[key.name]) for t, r in pairs if r.degradation is None or r.type != kind]
        ends = np.concatenate([true, said, lost]) if len(pairs) else np.array([key.low, key.high])
        axis.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color=GREY, linewidth=0.8)
        axis.plot(
            true,
            said,
            "o",
            color=BLUE,
            markersize=3,
            alpha=0.5,
            markeredgewidth=0,
            rasterized=len(true) > 500,
        )
        axis.plot(lost, np.full(len(lost), ends.min()), "|", color=ORANGE, markersize=8)
        axis.set_title(f"{key.name} ({key.unit})" if key.unit != "1" else key.name)
        axis.set_xlabel("true")
    axes.flat[0].set_ylabel("answered")
    return _svg(figure)


def _svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
