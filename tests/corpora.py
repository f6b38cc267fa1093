"""A corpus for tests that look at answers, not at how corpora are built: its test split, written in this process."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema import Config
from envs.corpus import build, generate
from envs.corpus.card import make_card
from envs.corpus.generate import SCHEMA


def written(out: Path, count: int) -> Path:
    """A tenth of `count` samples of 48 px, of the bundled photographs, in the folder `out`."""
    recipe, _ = build.plan(Config(count=count, size=48))
    rows = [generate.row(recipe, "test", index) for index in range(recipe.counts["test"])]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), out / "test-00000-of-00001.parquet")
    (out / "corpus.json").write_text(json.dumps(make_card(recipe, {})))
    return out
