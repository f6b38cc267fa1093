"""Tables as CSV: nested results become one line a cell, intervals become two columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from configs.run_folders import write_atomically


def flatten(nested: Mapping, names: Sequence[str]) -> list[dict]:
    """{a: {b: {"x": 1, "y": [0, 2]}}} under the names [A, B] -> [{"A": a, "B": b, "x": 1, "y_1": 0, "y_2": 2}]."""
    return [dict(_cells(record)) for record in _walk(nested, names)]


def write_csv(file: Path, records: Sequence[Mapping]) -> None:
    """Writes records with all columns that occur, in order of appearance; nothing without a record."""
    if not records:
        return
    columns = list(dict.fromkeys(name for record in records for name in record))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue())


def _walk(nested: Mapping, names: Sequence[str]) -> Iterator[dict]:
    if not names:
        yield dict(nested)
        return
    for name, inner in nested.items():
        for record in _walk(inner, names[1:]):
            yield {names[0]: name} | record


def _cells(record: Mapping) -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}_{number}", part) for number, part in enumerate(value, 1))
        elif isinstance(value, Mapping):
            yield from ((f"{name}_{inner}", part) for inner, part in value.items())
        else:
            yield name, value
