"""Parquet shards, each written by one worker, once: a build that was killed goes on where it stopped.

Beside every finished shard there is its record, what the card needs to know of it. A shard counts as done when both
are there; both appear at once, by renaming.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from envs.corpus.generate import IMAGES, SCHEMA, Drawn, Recipe, as_row, draw, reproduces
from envs.corpus.verify import clipped_share, contrast
from envs.world import world_taxonomy

SHARD_ROWS = (64, 512)
"""Rows of a shard, fewest and most: a small corpus still has work for all cores, a kill costs little of a large one."""
ROW_GROUP = 16
"""Rows that are read together: random access reads no more than these."""


@dataclass(frozen=True)
class Shard:
    """`rows` samples of a split from `first` on; the `number`-th of `of`."""

    split: str
    number: int
    of: int
    first: int
    rows: int

    @property
    def file(self) -> str:
        return f"{self.split}-{self.number:05d}-of-{self.of:05d}.parquet"


def shards(counts: dict[str, int]) -> list[Shard]:
    """All shards of a corpus, in order."""
    fewest, most = SHARD_ROWS
    rows = min(most, max(fewest, -(-sum(counts.values()) // 16)))
    return [
        Shard(split, number, -(-count // rows), first, min(rows, count - first))
        for split, count in counts.items()
        for number, first in enumerate(range(0, count, rows))
    ]


def write_shard(recipe: Recipe, shard: Shard, folder: Path) -> dict:
    """Writes FOLDER/corpus/FILE.parquet and FOLDER/records/FILE.json; returns the record. Holds `ROW_GROUP` rows.

    Raises:
        RuntimeError: a sample does not follow from its own clean image and values.
    """
    tally = Tally()
    draft = folder / "records" / f"{shard.file}.{uuid.uuid4().hex}.tmp"
    plain = [name for name in SCHEMA.names if name not in IMAGES]
    compression = {name: "NONE" if name in IMAGES else "ZSTD" for name in SCHEMA.names}  # PNG is compressed
    options = {"compression": compression, "use_dictionary": ["split", "type"], "write_statistics": plain}
    with pq.ParquetWriter(draft, SCHEMA, **options) as writer:
        for start in range(shard.first, shard.first + shard.rows, ROW_GROUP):
            indices = range(start, min(start + ROW_GROUP, shard.first + shard.rows))
            rows = [_verified(recipe, shard.split, index, tally) for index in indices]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    with draft.open("rb") as written:
        os.fsync(written.fileno())
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    record = {"rows": shard.rows, "bytes": draft.stat().st_size, "sha256": digest, **tally.as_dict()}
    noted = draft.with_suffix(".json.tmp")
    noted.write_text(json.dumps(record))
    noted.rename(_record(shard, folder))
    draft.rename(folder / "corpus" / shard.file)
    return record


def is_done(shard: Shard, folder: Path) -> bool:
    return _record(shard, folder).is_file() and (folder / "corpus" / shard.file).is_file()


def read_record(shard: Shard, folder: Path) -> dict:
    return json.loads(_record(shard, folder).read_text())


def write_here(recipe: Recipe, wanted: Sequence[Shard], folder: Path) -> Iterator[int]:
    """Writes shards in this process; yields the rows of each when it is done."""
    for shard in wanted:
        yield write_shard(recipe, shard, folder)["rows"]


def write_with_ray(recipe: Recipe, wanted: Sequence[Shard], folder: Path) -> Iterator[int]:
    """The same by Ray Data, a task a shard, in any order. Only numbers of rows reach this process."""
    import logging

    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # plans and timings stay in Ray's log files
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = ray.put(recipe)  # it has megabytes where photographs are many: it travels once, not with every task

    def write(row: dict) -> dict:
        return {"rows": write_shard(ray.get(told), Shard(**row), folder)["rows"]}

    items = ray.data.from_items([asdict(shard) for shard in wanted], override_num_blocks=len(wanted))
    for row in items.map(write, num_cpus=1).iter_rows():
        yield row["rows"]


class Tally:
    """Counts over samples: values of each key of each type, attempts passed over, extremes of plausibility."""

    def __init__(self):
        self._values: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
        self._types, self._passed_over, self._kept = Counter(), Counter(), []
        self._clipped: dict[str, float] = defaultdict(float)
        self._contrast: dict[str, float] = defaultdict(lambda: 255.0)

    def add(self, drawn: Drawn) -> None:
        kind = drawn.degradation.type
        self._types[kind] += 1
        self._passed_over.update(drawn.passed_over)
        if not drawn.sound:
            self._kept.append(drawn.sample_id)
        for key, value in drawn.degradation.values:
            self._values[kind][key].update(_numbers(value))
        self._clipped[kind] = max(self._clipped[kind], round(clipped_share(drawn.clean, drawn.degraded), 4))
        self._contrast[kind] = min(self._contrast[kind], round(contrast(drawn.degraded), 2))

    def as_dict(self) -> dict:
        return {
            "types": self._types,
            "values": self._values,
            "passed_over": self._passed_over,
            "kept": self._kept,
            "most_clipped": self._clipped,
            "least_contrast": self._contrast,
        }


def _verified(recipe: Recipe, split: str, index: int, tally: Tally) -> dict:
    drawn = draw(recipe, split, index)
    row = as_row(recipe, split, drawn)
    if not reproduces(row, world_taxonomy(recipe.world)):
        raise RuntimeError(f"{drawn.sample_id} does not follow from its clean image and values {row['values']}")
    tally.add(drawn)
    return row


def _numbers(value) -> Iterator[float]:
    if isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)
    else:
        yield value


def _record(shard: Shard, folder: Path) -> Path:
    return folder / "records" / f"{shard.file}.json"
