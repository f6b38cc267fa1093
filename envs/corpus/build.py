"""`duvlm run corpus`: photographs -> crops with known physics, in Parquet shards (DU-110k, Section 3.2).

What a sample is, is in `generate`; how shards are written in `shards`; how they are read in `reader`.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich.progress import Progress

from configs import UserError, manifest, run_folder
from configs.run_folders import locked
from configs.schema import Config
from envs.corpus import shards
from envs.corpus.card import make_card, write_card
from envs.corpus.datasets import SPLITS, Photo, parse_sources
from envs.corpus.generate import Recipe
from envs.corpus.photos import scan_photos
from envs.corpus.reader import DATA, read_card
from envs.corpus.review import read_reviews
from envs.degradations import depth

LIBRARIES = ("numpy", "opencv-python-headless", "pyarrow", "torch")
"""Their versions may change bytes; a build goes on only with those it began with."""


def run(config: Config) -> None:
    """Builds the corpus of photos=, count=, size=, seed= and reviews= in the run's folder, all of it or nothing.

    Run the same command again to continue a build that was stopped.
    """
    from configs.cluster.connect import prepare

    folder = run_folder(config, "corpus").resolve()
    if manifest.kind_of(folder) != "corpus":
        _check_replaceable(folder)
    recipe, skipped = plan(config)
    for path, why in skipped.items():
        print(f"skipped {path}: {why}")
    if is_complete(folder, recipe):
        print(f"{folder}: complete already, built from the same photographs and settings")
        shutil.rmtree(_beside(folder), ignore_errors=True)
        return
    _check_replaceable(folder)
    prepare(config, "corpus")
    build(recipe, skipped, folder, shards.write_with_ray)
    counts = ", ".join(f"{count} {split}" for split, count in recipe.counts.items())
    print(f"{folder}: {counts} samples of {recipe.size} px; {len(skipped)} pictures skipped")


def plan(config: Config) -> tuple[Recipe, dict[str, str]]:
    """Decides what a corpus will hold, without writing anything.

    Returns:
        Its recipe, and {file: why it was skipped} of the pictures that are of no use.

    Raises:
        UserError: no photographs, no depth where haze follows it, too few samples, or reviews of another corpus.
    """
    size = config.size or config.world.size
    photos, skipped = scan_photos(config.photos, config.seed, size, config.enlarge)
    shares = _shares(config.photos, photos)
    if config.world.depth == "file":
        photos = _with_depth(photos, config.photos)
    by_split = {split: tuple(photo for photo in photos if photo.split == split) for split in SPLITS}
    by_split = {split: chosen for split, chosen in by_split.items() if chosen}
    counts = split_counts(config.count, tuple(by_split))
    recipe = Recipe(config.seed, size, config.world, by_split, counts, shares=shares)
    return _reviewed(recipe, config.reviews), skipped


def split_counts(count: int, splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """Divides samples over splits: 103 : 4 : 3 as in the paper from 11,000 on, 84 : 6 : 10 below; sums to count."""
    shares = {"train": 103, "val": 4, "test": 3} if count >= 11_000 else {"train": 84, "val": 6, "test": 10}
    total = sum(shares.values())
    first, *others = splits
    counts = {split: min(max(1, round(count * shares[split] / total)), count) for split in others}
    rest = count - sum(counts.values())
    if rest < 1:  # fewer samples than splits
        raise UserError(f"count={count}: expected at least {len(splits)} samples, one in each split")
    return {first: rest} | counts


def build(recipe: Recipe, skipped: dict[str, str], folder: Path, write=shards.write_here) -> None:
    """Writes the corpus to `folder`, which appears at once, complete. Goes on where an earlier build stopped.

    Until then its shards lie beside it, in .NAME.partial; a build of another recipe there is thrown away.

    Args:
        recipe: what the corpus holds.
        skipped: {file: why}, for the card.
        folder: new, or a corpus to replace.
        write: `write_here`, or `write_with_ray` of `envs.corpus.shards`.
    """
    wanted, total = shards.shards(recipe.counts), sum(recipe.counts.values())
    with _partial(folder, recipe) as partial:
        todo = [shard for shard in wanted if not shards.is_done(shard, partial)]
        done = total - sum(shard.rows for shard in todo)
        if done:
            print(f"continuing: {done} samples are there already", flush=True)
        if todo:
            _show_progress(write(recipe, todo, partial), done, total)
        records = {shard.file: shards.read_record(shard, partial) for shard in wanted}
        corpus = partial / "corpus"
        write_card(make_card(recipe, skipped, records), corpus)
        known = {name: manifest.Entry(record["bytes"], record["sha256"]) for name, record in records.items()}
        manifest.write(corpus, "corpus", known)
        manifest.replace(folder, corpus)


def is_complete(folder: Path, recipe: Recipe) -> bool:
    """Tells whether `folder` holds the corpus of this recipe, no shard missing."""
    if not (folder / "corpus.json").is_file():
        return False
    try:
        card, written = read_card(folder), manifest.read(folder)
    except UserError:  # it is damaged: built again
        return False
    whole = not (written and manifest.faults(folder, manifest.only(written, DATA)))
    return card.get("recipe") == recipe.fingerprint() and whole


def _check_replaceable(folder: Path) -> None:
    """Raises UserError where something in `folder` was not written by an earlier build."""
    if foreign := manifest.foreign(folder, "corpus"):
        listed = ", ".join(foreign[:4]) + (f" and {len(foreign) - 4} more" if len(foreign) > 4 else "")
        raise UserError(
            f"out={folder} holds other things ({listed}): expected a new or empty folder, or a corpus to replace with "
            "nothing else in it; move them elsewhere, or build into another folder"
        )


def _shares(spec: str, photos: Sequence[Photo]) -> dict[str, int]:
    """{origin: share} of the sources of a `photos=` setting; empty where there is one alone."""
    sources, origins = parse_sources(spec), {photo.origin for photo in photos}
    if len(sources) == 1:
        return {}
    for source in sources:
        if source.name not in origins:
            raise UserError(
                f"photos={spec}: no photograph of {source.text} is of use; leave it out, or see why by naming it alone"
            )
    return {source.name: source.share for source in sources}


def _with_depth(photos: Sequence[Photo], spec: str) -> list[Photo]:
    """The photos with the digest of the depth beside each. Raises UserError where one has none."""
    files = [depth.find_depth(photo.path) for photo in photos]
    if missing := [photo.path for photo, file in zip(photos, files, strict=True) if not file]:
        names = ", ".join(missing[0].stem + suffix for suffix in depth.SUFFIXES)
        raise UserError(
            f"world.depth=file: {len(missing)} of {len(photos)} photographs have no depth; the first is {missing[0]}, "
            f"expected one of {names} beside it. `duvlm run depth photos={spec} model=NAME` writes it; or set "
            "world.depth=procedural for depth that is drawn, world.depth=none for even haze"
        )
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return [replace(photo, depth_digest=digest) for photo, digest in zip(photos, digests, strict=True)]


def _reviewed(recipe: Recipe, reviews: str) -> Recipe:
    """The recipe under the reviews: those of one corpus together, then those of the corpus that came of them."""
    waiting = read_reviews(reviews)
    while waiting:
        here = [review for review in waiting if review.corpus == recipe.fingerprint()]
        if not here:
            raise UserError(
                f"reviews={waiting[0].file}: it reviews the corpus {waiting[0].corpus}, but these photographs and"
                f" settings make {recipe.fingerprint()}; build with the settings of the corpus that was reviewed"
            )
        waiting = [review for review in waiting if review not in here]
        refused = Counter({sample_id: 1 for review in here for sample_id in review.rejected})
        recipe = replace(recipe, rejected=dict(Counter(recipe.rejected) + refused))
    return recipe


def _show_progress(rows: Iterator[int], done: int, total: int) -> None:
    """Runs through numbers of rows, with a bar on a terminal and a line every tenth elsewhere."""
    quiet = not sys.stdout.isatty()
    with Progress(transient=True, disable=quiet) as progress:
        task = progress.add_task("samples", total=total, completed=done)
        for count in rows:
            if quiet and (done + count) * 10 // total > done * 10 // total:
                print(f"{done + count} of {total} samples", flush=True)
            done += count
            progress.update(task, completed=done)


@contextmanager
def _partial(folder: Path, recipe: Recipe) -> Iterator[Path]:
    """The folder of an unfinished build, locked; it is removed on success only.

    It is named after the recipe and the libraries, so that an orphaned worker of another build cannot write into it.
    """
    root = _beside(folder)
    parts = [recipe.fingerprint(), str(shards.LAYOUT), *(version(name) for name in LIBRARIES)]
    partial = root / hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    with locked(root):
        for other in root.iterdir():
            if other.is_dir() and other != partial:
                shutil.rmtree(other)
        for name in ("corpus", "records"):
            (partial / name).mkdir(parents=True, exist_ok=True)
        for draft in (partial / "records").glob("*.tmp"):
            draft.unlink()
        yield partial
        shutil.rmtree(root)


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")
