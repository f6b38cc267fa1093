"""The plot of a study: a panel a measure; a point with its interval a variant, or a curve over the steps of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.ablate.study import Study
from benchmarks.quality.report import style

LABELS = {"j_acc": "J-Acc", "p_rel": "P-Rel", "p_abs": "P-Abs, units of the keys", "psnr": "PSNR (dB)"}


@style.styled()
def plot(study: Study, summary: Mapping, file: Path) -> None:
    """Writes a PNG. Thick lines are intervals, thin marks single seeds."""
    variants = summary["variants"]
    steps = {name: study.variant(name).settings.get("world.step_scale") for name in variants}
    curve = all(steps.values())
    height = 2.6 if curve else 0.9 + 0.45 * len(variants)
    figure, axes = style.grid(len(study.measures), len(study.measures), 3.2, height)
    for axis, measure in zip(axes, study.measures, strict=True):
        if curve:
            _curve(axis, [0.01 * step for step in steps.values()], list(variants.values()), measure)
        else:
            _rows(axis, list(variants.values()), measure, named=axis is axes[0])
    figure.suptitle(study.title)
    figure.savefig(file, dpi=150)
    style.plt.close(figure)


def _rows(axis, variants: Sequence[Mapping], measure: str, named: bool) -> None:
    for row, found in enumerate(variants):
        value, low, high = found["measures"][measure]
        colour = style.CYCLE[row % len(style.CYCLE)]
        axis.plot([low, high], [row, row], color=colour, linewidth=2)
        axis.plot(found["by_seed"][measure], [row] * len(found["seeds"]), "|", color=colour, markersize=8)
        axis.plot(value, row, "o", color=colour)
    axis.set_yticks(range(len(variants)), [found["title"] if named else "" for found in variants])
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.set_xlabel(LABELS[measure])


def _curve(axis, steps: Sequence[float], variants: Sequence[Mapping], measure: str) -> None:
    intervals = [found["measures"][measure] for found in variants]
    axis.plot(steps, [value for value, _, _ in intervals], "o-", color=style.BLUE, linewidth=1)
    for step, (_, low, high), found in zip(steps, intervals, variants, strict=True):
        axis.plot([step, step], [low, high], color=style.BLUE, linewidth=2)
        axis.plot([step] * len(found["seeds"]), found["by_seed"][measure], "_", color=style.BLUE, markersize=8)
    axis.set_xscale("log")
    axis.set_xticks(steps, [f"{step:g}" for step in steps])
    axis.minorticks_off()
    axis.set_xlabel("Δ (gain: a tenth)")
    axis.set_ylabel(LABELS[measure])
