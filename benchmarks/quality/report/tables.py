"""The tables of an evaluation: what is compared, with 95 % intervals, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from envs.degradations import PHENOMENA

NAMES = {"t_acc": "T-Acc", "t_f1": "T-F1", "j_acc": "J-Acc", "p_abs": "P-Abs", "p_rel": "P-Rel"}
SETS = {"set_precision": "set precision", "set_recall": "set recall", "set_f1": "set F1"}
"""Shown where several degradations may be there at once."""
LOWER_IS_BETTER = ("p_abs", "p_rel")

Rows = list[list[str]]


def type_name(kind: str) -> str:
    """`low light`; the parts of a composite joined by ` + `; anything else as it is."""
    return " + ".join(PHENOMENA[part].title if part in PHENOMENA else part for part in kind.split("+"))


def understanding(summary: Mapping, keys: bool = True) -> Rows:
    """A heading, then a row a measure, overall and per key; with before and gain where there is a before."""
    columns = [summary["before"], summary] if "before" in summary else [summary]
    heading = ["measure", *(["before", "after", "after - before"] if len(columns) == 2 else ["value"])]
    rows = [heading]
    sets = SETS if any("+" in kind for kind in summary["confusion"]) else {}
    names = [*NAMES, *sets, *(f"{key}.{error}" for error in ("p_abs", "p_rel") for key in summary["keys"] if keys)]
    for name in names:
        row = [
            _title(name),
            *(with_interval(_value(column, name), column["intervals"].get(name)) for column in columns),
        ]
        if len(columns) == 2:
            row.append(_gain(*summary["differences"][name], lower=name.endswith(LOWER_IS_BETTER)))
        rows.append(row)
    return rows


def restoration(summary: Mapping) -> Rows:
    """Table 2: PSNR, SSIM (and LPIPS) per type, a row a column of restorations."""
    found = summary.get("restoration")
    if not found:
        return []
    rows = [["restored with", *(type_name(kind) for kind in found)]]
    for name in found["all"]:
        rows.append([name, *(_quality(found[kind][name]) for kind in found)])
    return rows


def confusion(summary: Mapping) -> Rows:
    """True types down, answered types across."""
    table = {truth: row for truth, row in summary["confusion"].items() if any(row.values())}
    answered = list(next(iter(table.values())))
    rows = [["truth \\ answer", *(type_name(name) for name in answered)]]
    return rows + [[type_name(truth), *(str(row[name]) for name in answered)] for truth, row in table.items()]


def verdict(summary: Mapping) -> str:
    """One sentence on what can be said of before and after; empty without a before."""
    if "before" not in summary:
        return ""
    gains = {
        name: summary["differences"][name]
        for name in ("j_acc", "p_rel", "psnr")
        if name in summary["differences"]
    }
    sure = {name: gain for name, gain in gains.items() if gain[1] > 0 or gain[2] < 0}
    if not sure:
        return f"On {summary['samples']} samples no difference between before and after exceeds the noise."
    words = {"j_acc": "J-Acc", "p_rel": "P-Rel", "psnr": "PSNR"}
    parts = [f"{words[name]} {gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]" for name, gain in sure.items()]
    unsure = [words[name] for name in gains if name not in sure]
    rest = f"; {', '.join(unsure)}: within the noise" if unsure else ""
    return f"Beyond the noise on {summary['samples']} samples: {', '.join(parts)}{rest}."


def show(summary: Mapping) -> None:
    """Prints the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)  # a log file has no width of its own
    for title, rows in (
        (
            f"Understanding, {summary['samples']} {summary['split']} samples (95 % intervals)",
            understanding(summary),
        ),
        ("Restoration, PSNR (dB) and SSIM", restoration(summary)),
    ):
        if rows:
            console.print(_rich(title, rows))
    if summary["invalid"]:
        listed = ", ".join(f"{reason} {count}" for reason, count in summary["invalid"].items())
        console.print(f"Without a valid answer: {listed}")
    if sentence := verdict(summary):
        console.print(sentence)


def with_interval(value: float, interval: Sequence[float] | None, digits: int = 3) -> str:
    """`0.990 [0.980, 0.998]`."""
    if interval is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _quality(cell: Mapping) -> str:
    """`27.17 [26.34, 28.09], 0.772`."""
    lpips = f", {cell['lpips']:.3f}" if "lpips" in cell else ""
    return f"{with_interval(cell['psnr'], cell['psnr_interval'], 2)}, {cell['ssim']:.3f}{lpips}"


def _rich(title: str, rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _value(column: Mapping, name: str) -> float:
    key, dot, error = name.rpartition(".")
    return column["keys"][key][error] if dot else column[name]


def _title(name: str) -> str:
    key, dot, error = name.rpartition(".")
    return f"{NAMES[error]} {key.replace('_', ' ')}" if dot else (NAMES | SETS)[name]


def _gain(difference: float, low: float, high: float, lower: bool) -> str:
    better, worse = (high < 0, low > 0) if lower else (low > 0, high < 0)
    word = "better" if better else "worse" if worse else "noise"
    return f"{difference:+.3f} [{low:+.3f}, {high:+.3f}] {word}"
