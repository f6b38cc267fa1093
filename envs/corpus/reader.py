"""Reading a corpus: small columns at once, images by row group when a sample is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cachetools import LRUCache, cachedmethod

from configs import UserError, manifest
from configs.files import damaged, read_json
from configs.schema import World
from envs.corpus.generate import decode
from envs.degradations.depth import decode_map
from envs.taxonomy import Degradation, Taxonomy
from envs.types import Sample

_SMALL = ["sample_id", "photo_id", "split", "type", "values"]
_CACHED_BYTES = 64 << 20
DATA = r".*\.parquet|corpus\.json"
"""What is read of a corpus; the rest is for people, who may edit it."""
CURE = "copy the corpus here again, or build it again"


class CorpusSplit(Sequence[Sample]):
    """Gives the samples of one split, each read and decoded when it is asked for.

    Memory: the small columns, and at most 64 MB of PNG bytes.
    """

    def __init__(
        self,
        images: RowGroups,
        table: pa.Table,
        taxonomy: Taxonomy,
        rows: np.ndarray | None = None,
        clean: bool = True,
        transmission: bool = False,
    ):
        """
        Args:
            images: the binary columns of the whole split.
            table: the small columns of the chosen rows.
            taxonomy: the grid that values lie on.
            rows: the numbers of the chosen rows in `images`; all of them if not given.
            clean: read clean images; else they are None.
            transmission: read true maps of haze; else they are None.
        """
        self._images, self._table, self._taxonomy = images, table, taxonomy
        self._clean, self._transmission = clean, transmission
        self._rows = np.arange(table.num_rows) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> CorpusSplit: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            chosen = np.arange(len(self))[index]
            table, rows = self._table.take(chosen), self._rows[chosen]
            return CorpusSplit(self._images, table, self._taxonomy, rows, self._clean, self._transmission)
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index = int(index) % len(self)
        cells = {name: self._table[name][index].as_py() for name in _SMALL}
        row = int(self._rows[index])
        encoded = self._images.cell(row, "transmission") if self._transmission else None
        return Sample(
            sample_id=cells["sample_id"],
            photo_id=cells["photo_id"],
            split=cells["split"],
            degraded=self._images.picture(row, "degraded"),
            clean=self._images.picture(row, "clean") if self._clean else None,
            degradation=self._taxonomy.degradation(cells["type"], json.loads(cells["values"])),
            transmission=decode_map(encoded) if encoded else None,
        )

    def degradations(self) -> list[Degradation]:
        """Gives the truth of every sample, in order, without reading an image."""
        pairs = zip(self._table["type"].to_pylist(), self._table["values"].to_pylist(), strict=True)
        return [self._taxonomy.degradation(kind, json.loads(values)) for kind, values in pairs]

    def sample_ids(self) -> list[str]:
        return self._table["sample_id"].to_pylist()


class RowGroups:
    """Reads binary cells of Parquet files, a row group and a column at a time, and keeps the latest in memory."""

    def __init__(self, files: Sequence[Path]):
        self._paths = list(files)
        self._files = [open_parquet(file) for file in files]
        self._groups = [(file, i) for file, opened in enumerate(self._files) for i in range(opened.num_row_groups)]
        rows = [self._files[file].metadata.row_group(group).num_rows for file, group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._cache, self._lock = LRUCache(_CACHED_BYTES, getsizeof=lambda cells: cells.nbytes), Lock()

    def __reduce__(self):
        return RowGroups, (self._paths,)

    @property
    def rows(self) -> int:
        return int(self._starts[-1])

    @property
    def cached_bytes(self) -> int:
        return int(self._cache.currsize)

    def small_columns(self) -> pa.Table:
        tables = []
        for path, file in zip(self._paths, self._files, strict=True):
            with _named(path):
                tables.append(file.read(columns=_SMALL))
        return pa.concat_tables(tables).combine_chunks()

    def picture(self, row: int, column: str) -> np.ndarray:
        """Gives the picture in one row, uint8 RGB (H, W, 3).

        Raises:
            UserError: it is damaged.
        """
        picture = decode(self.cell(row, column))
        if picture is None:
            group = self._group_of(row)
            where = f"row {row - int(self._starts[group])} of row group {self._groups[group][1]}"
            raise damaged(self._paths[self._groups[group][0]], f"no picture in {where}", CURE)
        return picture

    def cell(self, row: int, column: str) -> memoryview:
        """Gives the bytes in one row, none for a cell that is null; any thread may ask."""
        group = self._group_of(row)
        with self._lock:
            cells = self._read(group, column)
        cell = cells[row - int(self._starts[group])]
        return memoryview(cell.as_buffer()) if cell.is_valid else memoryview(b"")

    @cachedmethod(lambda self: self._cache)
    def _read(self, group: int, column: str) -> pa.Array:
        file, number = self._groups[group]
        with _named(self._paths[file]):
            cells = self._files[file].read_row_group(number, columns=[column])[column].combine_chunks()
        stored_plainly = pa.types.is_binary(cells.type)  # as in corpora written before pictures were `Image` features
        return cells if stored_plainly else pc.struct_field(cells, "bytes")

    def _group_of(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turns what pyarrow makes of a damaged file into an error that names it."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, error, CURE) from None


def open_parquet(file: Path) -> pq.ParquetFile:
    """Opens a shard. Raises UserError where it is damaged."""
    with _named(file):
        return pq.ParquetFile(file, memory_map=True)


def read_card(folder: Path) -> dict:
    """Reads the corpus.json of a corpus.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = Path(folder) / "corpus.json"
    if not file.is_file():
        raise UserError(f"no corpus at {folder}: expected a folder with corpus.json (`duvlm run corpus` builds it)")
    return read_json(file, ("counts", "taxonomy", "size"), CURE)


def check_corpus(folder: Path) -> None:
    """Compares what is read of a corpus with its hashes, at some gigabytes a second; one without hashes passes.

    Raises:
        UserError: one is missing or damaged.
    """
    read_card(folder)
    manifest.check(folder, CURE, needed=DATA)


def check_size(folder: Path, world: World) -> None:
    """Raises UserError where the pictures of a corpus have another size than a policy of `world` sees."""
    if (size := read_card(folder)["size"]) != world.size:
        raise UserError(
            f"the corpus in {folder} has pictures of {size} px, but world.size={world.size}: set world.size={size}, or"
            f" build the corpus again with size={world.size}"
        )


def read_samples(
    folder: Path, split: str, taxonomy: Taxonomy, limit: int = 0, clean: bool = True, transmission: bool = False
) -> CorpusSplit:
    """Opens one split of a corpus.

    Args:
        folder: of the corpus.
        split: train, val or test.
        taxonomy: what its answers are in.
        limit: its first so many samples; 0 is all.
        clean: read clean images too; else they are None.
        transmission: read the true maps of haze too.

    Raises:
        UserError: no corpus there, another taxonomy, an empty split, or shards that are missing.
    """
    card = read_card(folder)
    if card["taxonomy"] != taxonomy.fingerprint():
        raise UserError(
            f"the corpus in {folder} was built with the taxonomy {card['taxonomy']} ({card['world']}), but"
            f" these settings have {taxonomy.fingerprint()}; set world.* to match, or build the corpus again"
        )
    if split not in card["counts"]:
        raise UserError(f"the corpus in {folder} has no {split} samples, only {card['counts']}")
    images = RowGroups(_shards(Path(folder), split))
    if images.rows != card["counts"][split]:
        raise UserError(
            f"the corpus in {folder} has {images.rows} {split} samples, its corpus.json says"
            f" {card['counts'][split]}: a shard is missing; copy it again, or build the corpus again"
        )
    whole = CorpusSplit(images, images.small_columns(), taxonomy, clean=clean, transmission=transmission)
    return whole[:limit] if limit else whole


def _shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split that belong to a corpus, each as long as it was written."""
    written = manifest.check(folder, CURE, hashed=False, needed=DATA)
    shards = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    return [file for file in shards if not written or file.name in written.files]
