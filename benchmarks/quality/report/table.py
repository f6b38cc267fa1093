"""One table, however it is read: in a terminal, on a page, as Markdown or as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable

from configs.run_folders import write_atomically

Rows = Sequence[Sequence[str]]
"""A heading row, then the others; the first cell of each names it."""


@dataclass(frozen=True)
class Table:
    """Holds what a table shows and the numbers behind it.

    cells: strings, a row each; the first column names the rows. numbers: the same in full precision, a record a line.
    """

    title: str
    cells: pd.DataFrame
    numbers: pd.DataFrame

    @classmethod
    def of(cls, title: str, rows: Rows, records: Sequence[Mapping] = ()) -> Table:
        """Makes a table of rows of text and records of numbers; a record's missing numbers stay empty."""
        return cls(title, pd.DataFrame(rows[1:], columns=list(rows[0])), pd.DataFrame(list(records), dtype=object))

    def print(self, console: Console) -> None:
        """Prints the cells."""
        printed = RichTable(title=self.title, title_justify="left")
        for number, name in enumerate(self.cells.columns):
            printed.add_column(name, justify="right" if number else "left")
        for row in self.cells.itertuples(index=False):
            printed.add_row(*row)
        console.print(printed)

    def html(self) -> str:
        """Returns the cells as a <table>."""
        with pd.option_context("display.max_colwidth", None):
            return self.cells.to_html(index=False, border=0)

    def markdown(self) -> str:
        """Returns the cells as a Markdown table."""
        head, *rows = [self.cells.columns, *self.cells.itertuples(index=False)]
        lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
        return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])

    def write_csv(self, file: Path) -> None:
        """Writes the numbers; nothing if there are none."""
        write_csv(file, self.numbers)


def write_csv(file: Path, records: Sequence[Mapping] | pd.DataFrame) -> None:
    """Writes records with all columns that occur, in order of appearance; nothing without a record."""
    if not len(records):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, pd.DataFrame(records, dtype=object).to_csv(index=False, lineterminator="\n"))


def flatten(nested: Mapping, *names: str) -> list[dict]:
    """Turns nested results into records: {a: {b: {"x": 1, "y": [0, 2]}}} under the names "A", "B" becomes
    [{"A": a, "B": b, "x": 1, "y_1": 0, "y_2": 2}]."""
    if not names:
        return [dict(_cells(nested))]
    return [{names[0]: name} | record for name, inner in nested.items() for record in flatten(inner, *names[1:])]


def with_interval(value: float, interval: Sequence[float] | None, digits: int = 3, sign: str = "") -> str:
    """Writes `0.990 [0.980, 0.998]`; sign `+` for differences."""
    numbers = [f"{number:{sign}.{digits}f}" for number in (value, *(interval or ()))]
    return numbers[0] if interval is None else f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def _cells(record: Mapping) -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}_{number}", part) for number, part in enumerate(value, 1))
        elif isinstance(value, Mapping):
            yield from ((f"{name}_{inner}", part) for inner, part in value.items())
        else:
            yield name, value
