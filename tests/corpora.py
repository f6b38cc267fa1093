"""A corpus for tests that look at answers, not at how corpora are built: its test split, written in this process."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from configs.schema import Config
from envs.corpus import build, generate
from envs.corpus.card import make_card
from envs.corpus.shards import as_table


def written(out: Path, count: int, train: int = 0) -> Path:
    """A tenth of `count` samples of 48 px, of the bundled photographs, in the folder `out`; `train` of training too."""
    recipe, _ = build.plan(Config(count=count, size=48))
    for split, number in (("test", recipe.counts["test"]), ("train", train)):
        rows = [generate.row(recipe, split, index) for index in range(number)]
        if rows:
            pq.write_table(as_table(rows, recipe.world), out / f"{split}-00000-of-00001.parquet")
    card = make_card(recipe, {})
    card["counts"]["train"] = train or card["counts"]["train"]
    (out / "corpus.json").write_text(json.dumps(card))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Reads every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
