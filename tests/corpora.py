"""A corpus for tests that look at answers, not at how corpora are built: its test split, written in this process."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema import Config
from envs.corpus import build as corpus


def written(out: Path, count: int) -> Path:
    """A tenth of `count` samples of 48 px, of the bundled photographs, in the folder `out`."""
    recipe, _ = corpus.plan(Config(count=count, size=48))
    rows = [corpus.row(recipe, "test", index) for index in range(recipe.counts["test"])]
    pq.write_table(pa.Table.from_pylist(rows, corpus.SCHEMA), out / "test-00000-of-00001.parquet")
    (out / "corpus.json").write_text(json.dumps(corpus.card(recipe, {})))
    return out
