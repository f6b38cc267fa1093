"""Parquet shards, each written by one worker, once: a build that was killed goes on where it stopped.

Beside every finished shard there is its record, what the card needs to know of it. A shard counts as done when both
are there; both appear at once, by renaming.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema import World
from envs.corpus.generate import Recipe, as_row, generate_sample, reproduces
from envs.corpus.verify import clipped_share, contrast
from envs.world import world_taxonomy

COLUMNS = ("sample_id", "photo_id", "split", "type", "values", "answer", "clean", "degraded", "transmission")
"""What every row has; `schema` adds what depends on the world."""
IMAGES = ("clean", "degraded", "transmission")
LAYOUT = 2
"""Version of how rows are stored: a build does not go on among shards of another one."""
SHARD_ROWS = (64, 512)
"""Rows of a shard, fewest and most: a small corpus still has work for all cores, a kill costs little of a large one."""
ROW_GROUP = 16
"""Rows that are read together: random access reads no more than these."""


@dataclass(frozen=True)
class Shard:
    """Names `rows` samples of a split from `first` on; the `number`-th of `of` files."""

    split: str
    number: int
    of: int
    first: int
    rows: int

    @property
    def file(self) -> str:
        return f"{self.split}-{self.number:05d}-of-{self.of:05d}.parquet"


def shards(counts: dict[str, int]) -> list[Shard]:
    """Divides a corpus of {split: samples} into shards, in order."""
    fewest, most = SHARD_ROWS
    rows = min(most, max(fewest, -(-sum(counts.values()) // 16)))
    return [
        Shard(split, number, -(-count // rows), first, min(rows, count - first))
        for split, count in counts.items()
        for number, first in enumerate(range(0, count, rows))
    ]


def schema(world: World) -> pa.Schema:
    """Returns the columns of a corpus of this world, with what makes `datasets` show its pictures as pictures.

    Pictures are stored as the feature `Image` of `datasets` stores them, {"bytes", "path"}. "parameters" has a field
    for each key of the world, null where the sample's type has no such key; "nuisances" is JSON, where there are some.
    """
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    fields = {name: picture if name in IMAGES else pa.string() for name in COLUMNS}
    fields["parameters"] = pa.struct({name: _nested(key.shape) for name, key in world_taxonomy(world).keys.items()})
    if world.nuisances:
        fields["nuisances"] = pa.string()
    features = {name: {"_type": "Image"} for name in IMAGES}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def as_table(rows: Sequence[Mapping], world: World) -> pa.Table:
    """Makes the table of some rows of `generate.row`, in the columns of `schema`."""
    stored = [
        {
            **row,
            **{name: row[name] and {"bytes": row[name]} for name in IMAGES},
            "parameters": json.loads(row["values"]),
        }
        for row in rows
    ]
    return pa.Table.from_pylist(stored, schema(world))


def write_shard(recipe: Recipe, shard: Shard, folder: Path) -> dict:
    """Writes FOLDER/corpus/FILE.parquet and FOLDER/records/FILE.json; returns the record. Holds `ROW_GROUP` rows.

    Raises:
        RuntimeError: a sample does not follow from its own clean image and values.
    """
    notes: list[dict] = []
    draft = folder / "records" / f"{shard.file}.{uuid.uuid4().hex}.tmp"
    columns = schema(recipe.world)
    plain = [field.name for field in columns if pa.types.is_string(field.type)]
    compression = {name: "ZSTD" for name in plain}  # PNG is compressed
    options = {"compression": compression, "use_dictionary": ["split", "type"], "write_statistics": plain}
    with pq.ParquetWriter(draft, columns, **options) as writer:
        for start in range(shard.first, shard.first + shard.rows, ROW_GROUP):
            indices = range(start, min(start + ROW_GROUP, shard.first + shard.rows))
            rows = [_verified_row(recipe, shard.split, index, notes) for index in indices]
            writer.write_table(as_table(rows, recipe.world))
    with draft.open("rb") as written:
        os.fsync(written.fileno())
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    record = {"rows": shard.rows, "bytes": draft.stat().st_size, "sha256": digest, "samples": notes}
    record_draft = draft.with_suffix(".json.tmp")
    record_draft.write_text(json.dumps(record))
    record_draft.rename(_record(shard, folder))
    draft.rename(folder / "corpus" / shard.file)
    return record


def is_done(shard: Shard, folder: Path) -> bool:
    """Tells whether a shard and its record are both there."""
    return _record(shard, folder).is_file() and (folder / "corpus" / shard.file).is_file()


def read_record(shard: Shard, folder: Path) -> dict:
    """Reads what `write_shard` has returned for a shard."""
    return json.loads(_record(shard, folder).read_text())


def write_here(recipe: Recipe, wanted: Sequence[Shard], folder: Path) -> Iterator[int]:
    """Writes shards in this process; yields the rows of each when it is done."""
    for shard in wanted:
        yield write_shard(recipe, shard, folder)["rows"]


def write_with_ray(recipe: Recipe, wanted: Sequence[Shard], folder: Path) -> Iterator[int]:
    """Writes shards by Ray Data, a task a shard, in any order. Only numbers of rows reach this process."""
    import logging

    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # plans and timings stay in Ray's log files
    ray.data.DataContext.get_current().enable_progress_bars = False
    reference = ray.put(recipe)  # it has megabytes where photographs are many: it travels once, not with every task

    def write(row: dict) -> dict:
        return {"rows": write_shard(ray.get(reference), Shard(**row), folder)["rows"]}

    items = ray.data.from_items([asdict(shard) for shard in wanted], override_num_blocks=len(wanted))
    for row in items.map(write, num_cpus=1).iter_rows():
        yield row["rows"]


def _verified_row(recipe: Recipe, split: str, index: int, notes: list[dict]) -> dict:
    """A row; what the card needs to know of it is added to `notes`."""
    sample = generate_sample(recipe, split, index)
    row = as_row(recipe, split, sample)
    if not reproduces(row, world_taxonomy(recipe.world)):
        raise RuntimeError(f"{sample.sample_id} does not follow from its clean image and values {row['values']}")
    note = {
        "sample_id": sample.sample_id,
        "split": split,
        "origin": sample.photo.origin,
        **sample.degradation.as_dict(),
        "passed_over": sample.passed_over,
        "sound": sample.sound,
        "clipped": round(clipped_share(sample.clean, sample.degraded), 4),
        "contrast": round(contrast(sample.degraded), 2),
        **({"nuisances": sample.nuisances.as_dict()} if sample.nuisances else {}),
    }
    notes.append(note)
    return row


def _nested(shape: Sequence[int]) -> pa.DataType:
    """The type of a value of this shape: a number, or nested lists of numbers."""
    return pa.list_(_nested(shape[1:])) if shape else pa.float64()


def _record(shard: Shard, folder: Path) -> Path:
    return folder / "records" / f"{shard.file}.json"
