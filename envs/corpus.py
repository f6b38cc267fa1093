"""The degradation-understanding corpus: photos -> crops with known physics, in Parquet shards (Section 3.2).

A sample is a pure function of (seed, split, index) and the photos of its split, so the bytes do not depend on
how many processes build them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import Progress

from configs import UserError, run_folder
from configs.schema import Config, World
from envs import answer
from envs.corpus_card import card, readme, review_sheet
from envs.photos import SPLITS, Photo, read_photo, scan_photos
from envs.policy_world import world_taxonomy
from envs.samples import Sample
from envs.taxonomy import Degradation, Taxonomy

COLUMNS = ("sample_id", "photo_id", "split", "type", "values", "answer", "clean", "degraded")
IMAGES = ("clean", "degraded")
SCHEMA = pa.schema([(name, pa.binary() if name in IMAGES else pa.string()) for name in COLUMNS])
SHARD_ROWS = 2048
TASK_ROWS = 64
CROP_TRIES = 12
MIN_DETAIL = 4.0
"""Mean |dx| + |dy| of a crop's luminance, grey levels; in flatter ones nobody could read the physics."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a corpus. photos: those of each split, in order."""

    seed: int
    size: int
    world: World
    photos: dict[str, tuple[Photo, ...]]
    counts: dict[str, int]


def run(config: Config) -> None:
    """Builds the corpus of photos=, count=, size= and seed= in the run's folder, all of it or nothing."""
    from configs.cluster import prepare

    folder = run_folder(config, "corpus")
    if folder.exists() and any(folder.iterdir()) and not (folder / "corpus.json").is_file():
        raise UserError(
            f"out={folder} holds other things: expected a new or empty folder, or a corpus to replace"
        )
    recipe, skipped = plan(config)
    for path, why in skipped.items():
        print(f"skipped {path}: {why}")
    prepare(config, "corpus")
    partial = folder.resolve().with_name(f".{folder.resolve().name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for split, count in recipe.counts.items():
            _write_shards(recipe, split, count, partial)
        summary = card(recipe, skipped)
        _verify(partial, recipe)
        review_sheet(partial, SPLITS)
        (partial / "README.md").write_text(readme(summary))
        (partial / "corpus.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    counts = ", ".join(f"{count} {split}" for split, count in recipe.counts.items())
    print(f"{folder}: {counts} samples of {recipe.size} px; {len(skipped)} pictures skipped")


def plan(config: Config) -> tuple[Recipe, dict[str, str]]:
    """The recipe of a config and the pictures skipped, by file."""
    size = config.size or config.world.size
    photos, skipped = scan_photos(config.photos, config.seed, size)
    by_split = {split: tuple(photo for photo in photos if photo.split == split) for split in SPLITS}
    by_split = {split: chosen for split, chosen in by_split.items() if chosen}
    counts = split_counts(config.count, tuple(by_split))
    return Recipe(config.seed, size, config.world, by_split, counts), skipped


def split_counts(count: int, splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """Samples of each split: 103 : 4 : 3 as in the paper from 11,000 on, 84 : 6 : 10 below; sums to count."""
    shares = {"train": 103, "val": 4, "test": 3} if count >= 11_000 else {"train": 84, "val": 6, "test": 10}
    total = sum(shares.values())
    first, *others = splits
    counts = {split: min(max(1, round(count * shares[split] / total)), count) for split in others}
    rest = count - sum(counts.values())
    if rest < 1:  # fewer samples than splits
        raise UserError(f"count={count}: expected at least {len(splits)} samples, one in each split")
    return {first: rest} | counts


def row(recipe: Recipe, split: str, index: int) -> dict:
    """Sample `index` of a split, a row of `COLUMNS`. Types take turns; one of each in a row share a photo."""
    import torch

    from envs.degradations import sample

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    taxonomy = world_taxonomy(recipe.world)
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index])
    photos = recipe.photos[split]
    kinds = taxonomy.types
    photo = photos[index // len(kinds) % len(photos)]
    clean = crop(_cached(photo.path), recipe.size, rng)
    degradation = sample(taxonomy, kinds[index % len(kinds)].name, rng, recipe.size)
    return {
        "sample_id": f"{split}-{index:07d}",
        "photo_id": photo.photo_id,
        "split": split,
        "type": degradation.type,
        "values": json.dumps(degradation.as_dict()["values"]),
        "answer": answer.write(degradation, taxonomy, recipe.world.rationale),
        "clean": encode(clean),
        "degraded": encode(degrade(clean, degradation)),
    }


def crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of the photo, side log-uniform in [size, short side], reduced to `size` by area; uint8 RGB.

    Flat squares are drawn again; after `CROP_TRIES` the one with most detail is taken.
    """
    best, most = None, -1.0
    for _ in range(CROP_TRIES):
        side = round(np.exp(rng.uniform(np.log(size), np.log(min(photo.shape[:2])))))
        top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        square = photo[top : top + side, left : left + side]
        square = square if side == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
        if (found := _detail(square)) > most:
            best, most = square, found
        if most >= MIN_DETAIL:
            break
    return np.ascontiguousarray(best)


def degrade(clean: np.ndarray, degradation: Degradation) -> np.ndarray:
    """I_d = G(I_c; D) on 8-bit images, uint8 (H, W, 3). One image a call: a batch could round differently."""
    import torch

    from envs.degradations import degrade as forward

    x = torch.from_numpy(clean).permute(2, 0, 1)[None].float() / 255
    y = forward(x, [degradation])[0].permute(1, 2, 0)
    return (y * 255).round().to(torch.uint8).numpy()


def check_sample(sample: Sample) -> bool:
    """Whether the degraded image follows from the clean one and the values, to the byte."""
    return np.array_equal(degrade(sample.clean, sample.degradation), sample.degraded)


def encode(image: np.ndarray) -> bytes:
    """PNG bytes of uint8 RGB (H, W, 3)."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def decode(png: bytes) -> np.ndarray:
    """uint8 RGB (H, W, 3) of PNG bytes."""
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


class CorpusSplit(Sequence[Sample]):
    """The samples of one split. PNG bytes stay in memory; a sample is decoded when it is asked for."""

    def __init__(self, table: pa.Table, taxonomy: Taxonomy):
        self._table, self._taxonomy = table, taxonomy

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int | slice) -> Sample | CorpusSplit:
        if isinstance(index, slice):
            return CorpusSplit(self._table.take(list(range(len(self)))[index]), self._taxonomy)
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        found = {name: self._table[name][index % len(self)].as_py() for name in self._table.column_names}
        return Sample(
            sample_id=found["sample_id"],
            photo_id=found["photo_id"],
            split=found["split"],
            degraded=decode(found["degraded"]),
            clean=decode(found["clean"]),
            degradation=self._taxonomy.degradation(found["type"], json.loads(found["values"])),
        )

    def degradations(self) -> list[Degradation]:
        """The truth of every sample, in order, without decoding an image."""
        pairs = zip(self._table["type"].to_pylist(), self._table["values"].to_pylist(), strict=True)
        return [self._taxonomy.degradation(kind, json.loads(values)) for kind, values in pairs]

    def sample_ids(self) -> list[str]:
        return self._table["sample_id"].to_pylist()


def read_card(folder: Path) -> dict:
    """The corpus.json of a corpus. Raises UserError where there is none."""
    file = Path(folder) / "corpus.json"
    if not file.is_file():
        raise UserError(
            f"no corpus at {folder}: expected a folder with corpus.json (`duvlm run corpus` builds it)"
        )
    return json.loads(file.read_text())


def read_samples(folder: Path, split: str, taxonomy: Taxonomy, limit: int = 0) -> CorpusSplit:
    """One split of a corpus, its first `limit` samples if given.

    Raises:
        UserError: no corpus there, another taxonomy, or an empty split.
    """
    found = read_card(folder)
    if found["taxonomy"] != taxonomy.fingerprint():
        raise UserError(
            f"the corpus in {folder} was built with the taxonomy {found['taxonomy']} ({found['world']}), but"
            f" these settings have {taxonomy.fingerprint()}; set world.* to match, or build the corpus again"
        )
    if split not in found["counts"]:
        raise UserError(f"the corpus in {folder} has no {split} samples, only {found['counts']}")
    table = _read(Path(folder), split)
    return CorpusSplit(table.slice(0, limit) if limit else table, taxonomy)


def _read(folder: Path, split: str) -> pa.Table:
    wanted = [name for name in COLUMNS if name != "answer"]
    shards = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    return pa.concat_tables([pq.read_table(shard, columns=wanted) for shard in shards])


def _verify(folder: Path, recipe: Recipe, samples: int = 25) -> None:
    """Reads a few samples of each split back and degrades them again."""
    taxonomy = world_taxonomy(recipe.world)
    for split, count in recipe.counts.items():
        rows = CorpusSplit(_read(folder, split), taxonomy)
        for index in range(0, count, -(-count // samples)):
            if not check_sample(rows[index]):
                raise RuntimeError(f"{rows[index].sample_id} does not follow from its clean image and values")


def _write_shards(recipe: Recipe, split: str, count: int, folder: Path) -> None:
    shards = -(-count // SHARD_ROWS)
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(split, total=count)
        for number, table in enumerate(_tables(recipe, split, count)):
            pq.write_table(table, folder / f"{split}-{number:05d}-of-{shards:05d}.parquet")
            progress.advance(task, table.num_rows)


def _tables(recipe: Recipe, split: str, count: int) -> Iterator[pa.Table]:
    """The rows of a split, built in parallel, in order, a table a shard."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # plans and timings stay in Ray's log files
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    tasks = -(-count // TASK_ROWS)

    def build(batch: dict[str, np.ndarray]) -> pa.Table:
        return pa.Table.from_pylist([row(recipe, split, int(index)) for index in batch["id"]], SCHEMA)

    rows = ray.data.range(count, override_num_blocks=tasks).map_batches(build, batch_size=TASK_ROWS)
    for table in rows.iter_batches(batch_size=SHARD_ROWS, batch_format="pyarrow"):
        yield table.combine_chunks().cast(SCHEMA)


def _detail(image: np.ndarray) -> float:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


@lru_cache(maxsize=24)
def _cached(path: Path) -> np.ndarray:
    return read_photo(path)
