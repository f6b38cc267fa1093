"""How every figure looks: colours of Okabe and Ito (told apart by everyone), one set of labels, SVG with real text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from envs.taxonomy import Key  # noqa: E402

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY, INK = "#999999", "#222222"
CYCLE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, YELLOW, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "du-vlm",  # the same figure gives the same file
}


SMOOTHED_FROM = 20
"""Points from which a curve is drawn thin, with a running mean."""


def styled():
    """Returns the context in which a figure is drawn; also a decorator."""
    return matplotlib.rc_context(STYLE)


def grid(count: int, columns: int, width: float, height: float):
    """Makes a figure of `count` plots in rows of `columns`; those left over are hidden. Inches a plot.

    Returns (figure, axes).
    """
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def svg(figure) -> str:
    """Returns the figure as an <svg> element, and closes it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def label(key: Key, before: str = "") -> str:
    """Writes `error of sigma (px)`: a quantity with its unit."""
    unit = f" ({key.unit})" if key.unit != "1" else ""
    return f"{before}{key.name.replace('_', ' ')}{unit}"


def short(kind: str) -> str:
    """Writes a type on two lines, for an axis."""
    return kind.replace("+", " +\n").replace("_", "\n")


@styled()
def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], columns: int = 3) -> str:
    """Draws training curves, a small plot a series: an SVG of {title: (steps, values)}."""
    figure, axes = grid(len(series), columns, 3.4, 1.9)
    for axis, (title, (steps, numbers)) in zip(axes, series.items(), strict=True):
        many = len(numbers) >= SMOOTHED_FROM
        colour, width, marker = (GREY, 0.7, "") if many else (BLUE, 1.4, ".")
        axis.plot(steps, numbers, color=colour, linewidth=width, marker=marker)
        if many:
            window = max(3, len(numbers) // 15)
            mean = np.convolve(numbers, np.ones(window) / window, "valid")
            axis.plot(steps[window // 2 :][: len(mean)], mean, color=BLUE, linewidth=1.5)
        axis.set_title(title)
        axis.set_xlabel("step")
    return svg(figure)
