"""The tables of an evaluation, made of its summary.json: the paper's, and those of bounds, scores and posteriors.

Each function returns a `Table`, or None where the summary has nothing to show; `evaluation_tables` gives all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from benchmarks.quality.measures import label
from benchmarks.quality.report import nuisances, paper
from benchmarks.quality.report.table import Table, flatten, with_interval
from envs.degradations import PHENOMENA

NAMES = {"t_acc": "T-Acc", "t_f1": "T-F1", "j_acc": "J-Acc", "p_abs": "P-Abs", "p_rel": "P-Rel"}
SETS = {"set_precision": "set precision", "set_recall": "set recall", "set_f1": "set F1"}
"""Shown where several degradations may be there at once."""
LOWER_IS_BETTER = ("p_abs", "p_rel")


def evaluation_tables(summary: Mapping) -> dict[str, Table]:
    """Returns {name of the CSV: table} of all that the summary has."""
    makers: dict[str, Callable[[Mapping], Table | None]] = {
        "understanding": understanding,
        "table1": penalised,
        "types": by_type,
        "decoding": decoding,
        "table2": restoration,
        "ranks": ranks,
        "table3": no_reference,
        "tolerance": tolerance,
        "bias": bias,
        "nuisances": nuisances.table,
        "classification_bounds": classification_bounds,
        "regression_bounds": regression_bounds,
        "likelihood": likelihoods,
    }
    made = {name: make(summary) for name, make in makers.items()}
    return {name: table for name, table in made.items() if table is not None}


def show(summary: Mapping) -> None:
    """Prints understanding and restoration, what had no valid answer, and the verdict."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)  # a log file has no width of its own
    for table in (understanding(summary, keys=True), restoration(summary)):
        if table:
            table.print(console)
    if table := nuisances.table(summary):
        table.print(console)
    if summary["invalid"]:
        listed = ", ".join(f"{reason} {count}" for reason, count in summary["invalid"].items())
        console.print(f"Without a valid answer: {listed}")
    if sentence := verdict(summary):
        console.print(sentence)


def columns_of(summary: Mapping) -> dict[str, Mapping]:
    """Returns the policies of a summary by name: `after`, and `before` ahead of it where there is one."""
    return ({"before": summary["before"]} if "before" in summary else {}) | {"after": summary}


def understanding(summary: Mapping, keys: bool = False) -> Table:
    """Shows the measures, a row each (with `keys` those of each key too), and the gain where there is a before."""
    columns = columns_of(summary)
    two = len(columns) == 2
    rows = [["measure", *(["before", "after", "after - before"] if two else ["value"])]]
    sets = SETS if any("+" in kind for kind in summary["confusion"]) else {}
    names = [*NAMES, *sets, *(f"{key}.{error}" for error in LOWER_IS_BETTER for key in summary["keys"] if keys)]
    for name in names:
        cells = [with_interval(_value(column, name), column["intervals"].get(name)) for column in columns.values()]
        gain = [_gain(*summary["differences"][name], lower=name.endswith(LOWER_IS_BETTER))] if two else []
        rows.append([_title(name), *cells, *gain])
    headline = {
        name: {m: {"value": column[m], "interval": column["intervals"].get(m, ())} for m in NAMES}
        for name, column in columns.items()
    }
    title = f"Understanding, {summary['samples']} {summary['split']} samples (95 % intervals)"
    return Table.of(title, rows, flatten(headline, "column", "measure"))


def penalised(summary: Mapping) -> Table:
    """Makes Table 1 of an evaluation; see `table1`."""
    return table1(columns_of(summary), summary["zero_prediction"])


def table1(columns: Mapping[str, Mapping], zero: Mapping[str, float]) -> Table:
    """Makes Table 1: P-Abs / P-Rel of each key and their mean, rows of ours and the paper's.

    Args:
        columns: {name: measures with "keys" and "intervals"}.
        zero: {key, or "mean": P-Abs of an answer that is always wrong}.
    """
    keys = [key for key in zero if key != "mean"]
    paper_rows = paper.table1(keys)
    rows = [["answers", *map(_spaced, keys), f"mean of {len(keys)} keys"]]
    rows.append(["zero prediction", *(f"{zero[key]:.3f} / 1.000" for key in (*keys, "mean"))])
    for name, column in columns.items():
        cells = [_errors(column["keys"][key], column["intervals"][f"{key}.p_rel"]) for key in keys]
        rows.append([name, *cells, _errors(column, column["intervals"]["p_rel"])])
    for name, row in paper_rows.items():
        cells = ["{:.3f} / {:.3f}".format(*row[key]) if key in row else "" for key in (*keys, "mean")]
        rows.append([f"paper: {name}", *cells])
    records = flatten({name: column["keys"] for name, column in columns.items()}, "column", "key")
    return Table.of("Table 1: P-Abs / P-Rel", rows, records)


def by_type(summary: Mapping) -> Table:
    """Shows the numbers of Figure 4."""
    columns = {name: column["types"] for name, column in columns_of(summary).items()}
    heads = [f"{title} {name}" for title in ("T-Acc", "T-F1", "J-Acc") for name in columns]
    rows = [["type", *heads, "samples"]]
    for kind, cell in summary["types"].items():
        cells = [f"{column[kind][m]:.3f}" for m in ("t_acc", "t_f1", "j_acc") for column in columns.values()]
        rows.append([type_name(kind), *cells, str(cell["samples"])])
    return Table.of("Types", rows, flatten(columns, "column", "type"))


def restoration(summary: Mapping) -> Table | None:
    """Makes Table 2: PSNR, SSIM (and LPIPS) by type, a row a column of restorations."""
    if not (means := summary.get("restoration")):
        return None
    rows = [["restored with", *(type_name(kind) for kind in means)]]
    rows += [[name, *(_quality(means[kind][name]) for kind in means)] for name in means["all"]]
    return Table.of("Restoration, PSNR (dB) and SSIM", rows, flatten(means, "type", "column"))


def ranks(summary: Mapping) -> Table | None:
    """Shows mean ranks of the methods that know no truth, and how far each is behind `after`, in pairs of samples."""
    if not (methods := summary.get("ranks")):
        return None
    units = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 3)}
    heads = (head for name, _ in units.values() for head in (f"rank by {name}", f"{name}, after - it"))
    rows = [["restored with", *heads]]
    for name, cells in methods.items():
        row = [name]
        for measure, (_, digits) in units.items():
            rank, behind = cells[measure]["rank"], cells[measure]["behind_after"]
            row += [with_interval(rank[0], rank[1:], 2), with_interval(behind[0], behind[1:], digits, "+")]
        rows.append(row)
    return Table.of("Ranks among the methods that know no truth", rows, flatten(methods, "column", "measure"))


def no_reference(summary: Mapping) -> Table | None:
    """Makes Table 3: no-reference scores of each column of restorations, over all types; clean pictures are last."""
    if not (means := summary.get("no_reference")):
        return None
    names = [n for n in means["all"]["not restored"] if n != "samples" and not n.endswith("_interval")]
    rows = [["restored with", *(label(name) for name in names), "samples"]]
    for column, cell in means["all"].items():
        shown = [with_interval(cell[n], cell[f"{n}_interval"], 2) if n in cell else "-" for n in names]
        rows.append([column, *shown, str(cell["samples"])])
    return Table.of("No-reference scores", rows, flatten(means, "type", "column"))


def tolerance(summary: Mapping) -> Table | None:
    """Shows Section 5.4: the correlation of |error| with each measure, as in the paper and against true parameters."""
    if not (keys := summary.get("tolerance")):
        return None
    names = list(next(iter(keys.values())))
    rows = [["key", *(_correlation_title(name) for name in names), "samples"]]
    for key, cells in keys.items():
        rows.append([_spaced(key), *(_correlation(cells[name]) for name in names), str(cells[names[0]]["samples"])])
    return Table.of("Tolerance to parameter errors", rows, flatten(keys, "key", "measure"))


def decoding(summary: Mapping) -> Table | None:
    """Shows P-Rel of each way to choose a number, per key, with the coverage and width of the 90 % intervals."""
    if not (decoded := summary.get("decoding")):
        return None
    ways = list(decoded["p_rel"])
    rows = [["key", *(f"P-Rel, {way}" for way in ways), "coverage", "width"]]
    for key, cell in decoded["keys"].items():
        numbers = [f"{cell['p_rel'][way]:.4f}" for way in ways]
        shown = ["" if cell[name] is None else f"{cell[name]:.3f}" for name in ("coverage", "width")]
        rows.append([_spaced(key), *numbers, *shown])
    rows.append(["mean", *(f"{decoded['p_rel'][way]:.4f}" for way in ways), f"{decoded['coverage'][0]:.3f}", ""])
    return Table.of("P-Rel by how numbers are read off their posteriors", rows, flatten(decoded["keys"], "key"))


def bias(summary: Mapping) -> Table | None:
    """Shows per score and key the factor it likes best, and how often it prefers the truth."""
    if not (scores := summary.get("bias")):
        return None
    rows = [["score", *(_spaced(key) for key in next(iter(scores.values())))]]
    for name, cells in scores.items():
        rows.append([label(name), *(_preference(cell) for cell in cells.values())])
    return Table.of("What no-reference scores prefer", rows, flatten(scores, "score", "key"))


def classification_bounds(summary: Mapping) -> Table:
    """Shows Equation 5."""
    deltas = summary["bounds"]["classification"]
    rows = [["Δ", "measured error", "bound √(2ε), ε of type and keys", "bound √(2ε), ε of the whole answer", "ε"]]
    for delta, cell in deltas.items():
        rows.append([delta, *(f"{cell[n]:.3f}" for n in ("error", "bound_structure", "bound", "excess_risk"))])
    return Table.of("Classification bounds", rows, flatten(deltas, "delta"))


def regression_bounds(summary: Mapping) -> Table:
    """Shows Equation 6."""
    deltas = summary["bounds"]["regression"]
    rows = [["Δ", "key", "bin", "measured MSE", "Δ²/4", "wrong bins", "Δ²/4 + D² P(wrong bin)", "bound (Eq. 6)", "D²"]]
    for delta, cells in deltas.items():
        for key, cell in cells.items():
            numbers = [_plain(cell[n]) for n in ("mse", "quantisation")]
            numbers += [f"{cell['wrong_bins']:.0%}"] + [_plain(cell[n]) for n in ("bound_bins", "bound", "largest")]
            rows.append([delta, _spaced(key), f"{cell['delta']:g}", *numbers])
    return Table.of("Regression bounds", rows, flatten(deltas, "delta", "key"))


def likelihoods(summary: Mapping) -> Table:
    """Shows Equation 4."""
    deltas = summary["bounds"]["likelihood"]
    losses = ("policy's -log P", "Gaussian -log P", "squared error + C", "gap")
    rows = [["Δ", "key", *losses, "excess kurtosis", "residual"]]
    for delta, cells in deltas.items():
        for key, cell in cells.items():
            measured = "" if cell["measured"] is None else f"{cell['measured']:.3f}"
            numbers = [measured, *(f"{cell[n]:.3f}" for n in ("exact", "loss", "gap", "excess_kurtosis", "spread"))]
            rows.append([delta, _spaced(key), *numbers])
    return Table.of("Token loss and regression loss", rows, flatten(deltas, "delta", "key"))


def verdict(summary: Mapping) -> str:
    """Says in one sentence what can be said of before and after; empty without a before."""
    if "before" not in summary:
        return ""
    words = {"j_acc": "J-Acc", "p_rel": "P-Rel", "psnr": "PSNR"}
    gains = {name: summary["differences"][name] for name in words if name in summary["differences"]}
    sure = {name: gain for name, gain in gains.items() if gain[1] > 0 or gain[2] < 0}
    if not sure:
        return f"On {summary['samples']} samples no difference between before and after exceeds the noise."
    parts = [f"{words[name]} {with_interval(gain[0], gain[1:], sign='+')}" for name, gain in sure.items()]
    unsure = [words[name] for name in gains if name not in sure]
    rest = f"; {', '.join(unsure)}: within the noise" if unsure else ""
    return f"Beyond the noise on {summary['samples']} samples: {', '.join(parts)}{rest}."


def type_name(kind: str) -> str:
    """Writes a type for people, `low light`; the parts of a composite are joined by ` + `."""
    return " + ".join(PHENOMENA[part].title if part in PHENOMENA else part for part in kind.split("+"))


def _spaced(key: str) -> str:
    return key.replace("_", " ")


def _errors(cell: Mapping, interval: Sequence[float]) -> str:
    return f"{cell['p_abs']:.3f} / {with_interval(cell['p_rel'], interval)}"


def _quality(cell: Mapping) -> str:
    """`27.17 [26.34, 28.09], 0.772`."""
    lpips = f", {cell['lpips']:.3f}" if "lpips" in cell else ""
    return f"{with_interval(cell['psnr'], cell['psnr_interval'], 2)}, {cell['ssim']:.3f}{lpips}"


def _value(column: Mapping, name: str) -> float:
    key, dot, error = name.rpartition(".")
    return column["keys"][key][error] if dot else column[name]


def _title(name: str) -> str:
    key, dot, error = name.rpartition(".")
    return f"{NAMES[error]} {_spaced(key)}" if dot else (NAMES | SETS)[name]


def _gain(difference: float, low: float, high: float, lower: bool) -> str:
    better, worse = (high < 0, low > 0) if lower else (low > 0, high < 0)
    word = "better" if better else "worse" if worse else "noise"
    return f"{with_interval(difference, (low, high), sign='+')} {word}"


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
