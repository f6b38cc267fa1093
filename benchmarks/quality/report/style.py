"""How every figure looks: colours of Okabe and Ito (told apart by everyone), one set of labels, SVG with real text."""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from benchmarks.quality.report.tables import type_name  # noqa: E402
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


def styled():
    """The context in which a figure is drawn; also a decorator."""
    return matplotlib.rc_context(STYLE)


def grid(count: int, columns: int, width: float, height: float):
    """A figure of `count` plots in rows of `columns`, and its axes; those left over are hidden. Inches a plot."""
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def svg(figure) -> str:
    """The figure as an <svg> element; closes it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def label(key: Key, before: str = "") -> str:
    """`error of sigma (px)`: a quantity with its unit."""
    unit = f" ({key.unit})" if key.unit != "1" else ""
    return f"{before}{key.name.replace('_', ' ')}{unit}"


def short(kind: str) -> str:
    """A type on two lines, for an axis."""
    return type_name(kind).replace(" + ", " +\n").replace("low ", "low\n")
