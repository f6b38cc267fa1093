"""The paper's other tables: Table 1 beside its own rows, Table 3, Section 5.4, the propositions, and the bias table."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.quality.report.tables import Rows, type_name, with_interval
from benchmarks.quality.scores import label

KEYS = ("gamma", "gain", "camera", "atmospheric_light", "transmission", "sigma", "scale")
PAPER = {
    "paper: GPT-4o": "2.316/0.832 0.314/4.355 0.401/1.061 0.375/0.706 0.450/1.711 3.578/0.610 2.970/0.995 1.486/1.467",
    "paper: Qwen3VL-8B": (
        "2.756/1.000 0.076/1.011 0.439/1.001 0.606/0.966 0.416/0.993 2.972/0.802 2.954/0.996 1.460/0.967"
    ),
    "paper: Qwen3VL-8B-SFT": (
        "0.486/0.172 0.009/0.107 0.054/0.078 0.057/0.093 0.082/0.210 0.839/0.174 0.000/0.000 0.218/0.119"
    ),
    "paper: DU-VLM": (
        "0.468/0.166 0.008/0.102 0.057/0.080 0.044/0.069 0.082/0.202 0.644/0.118 0.000/0.000 0.186/0.105"
    ),
}
"""Rows of the paper's Table 1, P-Abs/P-Rel of `KEYS` and their mean, at 256 px on its own photographs."""


def penalised(summary: Mapping) -> Rows:
    """Table 1: P-Abs / P-Rel of each key and their mean over keys; ours with intervals of P-Rel, the paper's beside."""
    ours = {name: summary[name] for name in ("before",) if name in summary} | {"after": summary}
    paper = {name: dict(zip((*KEYS, "mean"), row.split(), strict=True)) for name, row in PAPER.items()}
    rows = [["key", "zero prediction", *ours, *paper]]
    for key in (*summary["keys"], "mean"):
        row = [key.replace("_", " "), f"{summary['zero_prediction'][key]:.3f} / 1.000"]
        for column in ours.values():
            cell = column if key == "mean" else column["keys"][key]
            interval = column["intervals"]["p_rel" if key == "mean" else f"{key}.p_rel"]
            row.append(f"{cell['p_abs']:.3f} / {with_interval(cell['p_rel'], interval)}")
        rows.append(row + [found.get(key, "").replace("/", " / ") for found in paper.values()])
    return rows


def by_type(summary: Mapping) -> Rows:
    """The numbers of Figure 4."""
    columns = {"before": summary["before"]["types"]} if "before" in summary else {}
    columns["after"] = summary["types"]
    heads = [f"{title} {name}" for title in ("T-Acc", "T-F1", "J-Acc") for name in columns]
    rows = [["type", *heads, "samples"]]
    for kind, cell in summary["types"].items():
        cells = [f"{column[kind][m]:.3f}" for m in ("t_acc", "t_f1", "j_acc") for column in columns.values()]
        rows.append([type_name(kind), *cells, str(cell["samples"])])
    return rows


def no_reference(summary: Mapping) -> Rows:
    """Table 3: no-reference scores of each column of restorations, over all types; the clean pictures are last."""
    found = summary.get("no_reference")
    if not found:
        return []
    names = [n for n in found["all"]["not restored"] if n != "samples" and not n.endswith("_interval")]
    rows = [["restored with", *(label(name) for name in names), "samples"]]
    for column, cell in found["all"].items():
        shown = [with_interval(cell[n], cell[f"{n}_interval"], 2) if n in cell else "-" for n in names]
        rows.append([column, *shown, str(cell["samples"])])
    return rows


def tolerance(summary: Mapping) -> Rows:
    """Pearson's r of |error| with each measure, as in the paper and against the restoration at true parameters."""
    found = summary.get("tolerance")
    if not found:
        return []
    names = list(next(iter(found.values())))
    rows = [["key", *(_correlation_title(name) for name in names), "samples"]]
    for key, cells in found.items():
        shown = [_correlation(cells[name]) for name in names]
        rows.append([key.replace("_", " "), *shown, str(cells[names[0]]["samples"])])
    return rows


def decoding(summary: Mapping) -> Rows:
    """P-Rel of each way to choose a number, per key, with the coverage and width of the 90 % intervals."""
    found = summary.get("decoding")
    if not found:
        return []
    ways = list(found["p_rel"])
    rows = [["key", *(f"P-Rel, {way}" for way in ways), "coverage", "width"]]
    for key, cell in found["keys"].items():
        numbers = [f"{cell['p_rel'][way]:.4f}" for way in ways]
        shown = ["" if cell[name] is None else f"{cell[name]:.3f}" for name in ("coverage", "width")]
        rows.append([key.replace("_", " "), *numbers, *shown])
    return rows + [["mean", *(f"{found['p_rel'][way]:.4f}" for way in ways), f"{found['coverage'][0]:.3f}", ""]]


def bias(summary: Mapping) -> Rows:
    """Per score and key: the factor it likes best, and how often it prefers the truth."""
    found = summary.get("bias")
    if not found:
        return []
    keys = list(next(iter(found.values())))
    rows = [["score", *(key.replace("_", " ") for key in keys)]]
    for name, cells in found.items():
        rows.append([label(name), *(_preference(cell) for cell in cells.values())])
    return rows


def classification_bounds(summary: Mapping) -> Rows:
    """Equation 5."""
    rows = [["Δ", "measured error", "bound √(2ε), ε of type and keys", "bound √(2ε), ε of the whole answer", "ε"]]
    for delta, cell in summary["bounds"]["classification"].items():
        numbers = [cell[n] for n in ("error", "bound_structure", "bound", "excess_risk")]
        rows.append([delta, *(f"{number:.3f}" for number in numbers)])
    return rows


def regression_bounds(summary: Mapping) -> Rows:
    """Equation 6."""
    rows = [["Δ", "key", "bin", "measured MSE", "Δ²/4", "wrong bins", "Δ²/4 + D² P(wrong bin)", "bound (Eq. 6)", "D²"]]
    for delta, cells in summary["bounds"]["regression"].items():
        for key, cell in cells.items():
            numbers = [_plain(cell[n]) for n in ("mse", "quantisation")]
            numbers += [f"{cell['wrong_bins']:.0%}"] + [_plain(cell[n]) for n in ("bound_bins", "bound", "largest")]
            rows.append([delta, key.replace("_", " "), f"{cell['delta']:g}", *numbers])
    return rows


def likelihoods(summary: Mapping) -> Rows:
    """Equation 4."""
    losses = ("policy's -log P", "Gaussian -log P", "squared error + C", "gap")
    rows = [["Δ", "key", *losses, "excess kurtosis", "residual"]]
    for delta, cells in summary["bounds"]["likelihood"].items():
        for key, cell in cells.items():
            measured = "" if cell["measured"] is None else f"{cell['measured']:.3f}"
            numbers = [measured, *(f"{cell[n]:.3f}" for n in ("exact", "loss", "gap", "excess_kurtosis", "spread"))]
            rows.append([delta, key.replace("_", " "), *numbers])
    return rows


def _preference(cell: Mapping) -> str:
    return "" if cell["optimum"] is None else f"x {cell['optimum']:g}, {cell['prefers_truth']:.0%}"


def _plain(number: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{number:.{max(0, 2 - int(f'{number:e}'.split('e')[1]))}f}" if number else "0"


def _correlation_title(name: str) -> str:
    measure, _, change = name.partition("_")
    return f"{measure.upper()}{' change' if change else ''}"


def _correlation(cell: Mapping) -> str:
    if cell["pearson"] is None:
        return "no spread"
    return f"r {with_interval(cell['pearson'][0], cell['pearson'][1:], 2)}, ρ {cell['spearman'][0]:.2f}"
