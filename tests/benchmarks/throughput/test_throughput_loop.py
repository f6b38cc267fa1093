"""The real loop over actors that sleep: the regression gate, and what travels between the processes."""

import asyncio

import pytest

from benchmarks.throughput import regression as gate
from benchmarks.throughput.loop import sync, transfer
from benchmarks.throughput.simulation import simulate
from configs import load


def test_the_stand_in_for_a_policy_folder_has_the_tensors_it_announces(tmp_path):
    weights = sync.Weights(sync.like_qwen(16, 2, 100), "bfloat16")
    weights.write_folder(tmp_path, 0.1, sync.BUCKET_BYTES)
    weights.manifest().check(tmp_path)
    assert weights.parameters == 100 * 16 + 2 * (4 * 16**2 + 3 * 16 * 44 + 2 * 16)


@pytest.mark.engine
@pytest.mark.slow
def test_no_ratio_of_the_throughput_benchmarks_is_below_its_baseline(ray_cluster):
    """Quick versions of `pipeline`, `overhead` and `scaling`, about a minute of mostly waiting."""
    assert gate.broken(gate.measure(load("evaluate", ["world=paper"])), gate.baseline()) == []


@pytest.mark.engine
@pytest.mark.slow
def test_the_loop_in_virtual_time_takes_its_steps_as_fast_as_the_real_one(ray_cluster):
    """The real one, whose stages sleep, needs a quiet machine."""
    for row in simulate.compare(load("evaluate", ["world=paper"])):
        assert abs(row["error"]) < simulate.BOUND, row


@pytest.mark.engine
@pytest.mark.slow
def test_a_picture_crosses_the_object_store_once_and_no_message_holds_one(ray_cluster):
    found = transfer.run(load("evaluate", ["world=paper"]))
    assert found["crossings"] == 1
    messages = [size for hop, (_, size) in found["hops"].items() if "object store" not in hop]
    assert max(messages) < found["image_bytes"] / 2


@pytest.mark.engine
@pytest.mark.slow
def test_a_weight_update_takes_three_calls_of_an_engine_however_many_buckets(ray_cluster):
    weights = sync.Weights(sync.like_qwen(256, 4, 1000), "float32")  # 16 MB
    found = asyncio.run(sync.measure(load("evaluate", ["world=paper"]), weights, bucket_mb=4, updates=2))
    assert found["buckets"] > 3
    assert found["calls"] == 3
    assert found["gb_per_second"] > 0
