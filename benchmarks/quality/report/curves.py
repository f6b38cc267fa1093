"""Training curves: one small plot a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.quality.report import style

MANY = 20
"""Points from which a series is drawn thin, with a running mean."""


@style.styled()
def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], columns: int = 3) -> str:
    """An SVG of {title: (steps, values)}."""
    figure, axes = style.grid(len(series), columns, 3.4, 1.9)
    for axis, (title, (steps, numbers)) in zip(axes, series.items(), strict=True):
        many = len(numbers) >= MANY
        colour, width, marker = (style.GREY, 0.7, "") if many else (style.BLUE, 1.4, ".")
        axis.plot(steps, numbers, color=colour, linewidth=width, marker=marker)
        if many:
            window = max(3, len(numbers) // 15)
            mean = np.convolve(numbers, np.ones(window) / window, "valid")
            axis.plot(steps[window // 2 :][: len(mean)], mean, color=style.BLUE, linewidth=1.5)
        axis.set_title(title)
        axis.set_xlabel("step")
    return style.svg(figure)
