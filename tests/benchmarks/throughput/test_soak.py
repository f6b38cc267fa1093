"""Memory under steady load. Slow: half a minute is too short to tell a leak from a cache, three minutes are not."""

import pytest

from benchmarks.throughput.soak import run
from configs import load
from envs.corpus import build


@pytest.mark.slow
def test_memory_stays_flat_under_steady_load_with_images(tmp_path, ray_cluster):
    build.run(load("corpus", ["world=paper", "count=96", f"out={tmp_path}"]))
    figures = run(load("evaluate", [f"corpus={tmp_path}", "split=train", "reward.actors=2"]), minutes=3)
    assert figures["queries"] > 64
    assert all(line["flat"] for line in figures["memory"].values()), figures["memory"]
