"""The command line says of a fixed predictions file what golden/README.md works out by hand."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import duvlm
from configs.schema import World
from envs.corpus.generate import encode
from envs.corpus.shards import COLUMNS, as_table
from envs.taxonomy import TAXONOMY

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """summary.json of the golden predictions on a corpus whose pictures are black: nothing here looks at them."""
    folder = tmp_path_factory.mktemp("golden")
    black = encode(np.zeros((32, 32, 3), np.uint8))
    rows = []
    for sample_id, truth in json.loads((GOLDEN / "truth.json").read_text()).items():
        row = dict.fromkeys(COLUMNS) | {"sample_id": sample_id, "photo_id": "black", "split": "test"}
        row |= {"type": truth["type"], "values": json.dumps(truth["values"]), "clean": black, "degraded": black}
        rows.append(row)
    pq.write_table(as_table(rows, World()), folder / "test-00000-of-00001.parquet")
    card = {"taxonomy": TAXONOMY.fingerprint(), "world": {}, "size": 32, "counts": {"test": len(rows)}}
    (folder / "corpus.json").write_text(json.dumps(card))
    arguments = [f"corpus={folder}", f"policy={GOLDEN / 'predictions.jsonl'}", f"out={folder / 'out'}"]
    assert duvlm.main(["run", "evaluate", *arguments]) == 0
    return json.loads((folder / "out" / "summary.json").read_text())


def disagreements(expected, found, where=""):
    """Leaves of `expected`, numbers or fractions, that differ from `found` by more than 1e-9."""
    if isinstance(expected, dict):
        return [line for key in expected for line in disagreements(expected[key], found[key], f"{where}/{key}")]
    exact = float(Fraction(expected))
    return [] if abs(found - exact) <= 1e-9 else [f"{where}: {found} is not {expected}"]


def test_the_summary_agrees_with_the_hand_computation(summary):
    assert disagreements(json.loads((GOLDEN / "summary_golden.json").read_text()), summary) == []


def test_the_comparison_sees_a_difference_of_a_millionth(summary):
    golden = {"p_rel": "269/360"}
    assert disagreements(golden, summary | {"p_rel": summary["p_rel"] + 1e-6}) != []


def test_every_case_of_the_issue_is_in_the_file(summary):
    assert summary["invalid"] == {"wrong_keys": 3, "out_of_range": 1, "missing": 1}
