"""The picture of a corpus's parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

_COLUMNS = 3


def plot_parameters(parameters: dict, file: Path) -> None:
    """One histogram for each key of each type, from corpus.json's "parameters"."""
    panels = [(kind, key, found) for kind, keys in parameters.items() for key, found in keys.items()]
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 2.4 * rows), layout="constrained")
    axes = iter(np.ravel(figure.subplots(rows, _COLUMNS)))
    for (kind, key, found), axis in zip(panels, axes, strict=False):
        edges = np.array(found["edges"])
        axis.bar(edges[:-1], found["counts"], np.diff(edges), align="edge", color="#0072b2", edgecolor="white", lw=0.4)
        axis.set_title(f"{kind}: {key}", fontsize=9, loc="left")
        axis.set_xlabel(found["unit"] if found["unit"] != "1" else "", fontsize=8)
        axis.axvline(found["mean"], color="#d55e00", lw=1)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes:  # those left over
        axis.remove()
    figure.savefig(file, dpi=100, metadata={"Software": None})
