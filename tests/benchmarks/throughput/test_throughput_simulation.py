"""The RL loop in virtual time, and the plans that rest on it. No engine, no waiting."""

import asyncio
import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.throughput import regression as gate
from benchmarks.throughput.loop.run import Sleeps
from benchmarks.throughput.loop.shape import Shape, Times, lap
from benchmarks.throughput.reward.scaling import makespan
from benchmarks.throughput.simulation.clock import VirtualLoop
from benchmarks.throughput.simulation.measured import read_run
from benchmarks.throughput.simulation.planning import lower_bound, plan, report, splits, table
from benchmarks.throughput.simulation.virtual import SleepingRewardActors, simulate
from configs import UserError, config_to_yaml, load
from envs.types import RewardQuery
from learner.logging.trace import Trace
from learner.rl.staleness import may_sample, steps_ahead
from reward_actors.pool import queue
from reward_actors.pool.pool import RewardPool

SHAPE = Shape(prompts=8, group_size=8, in_flight=4, actors=4, rows=4)
SECONDS = st.floats(0.1, 3)


def test_sampling_may_run_one_step_ahead_of_learning_and_no_further():
    assert list(steps_ahead(3, 1, 10)) == [3, 4]
    assert list(steps_ahead(9, 1, 10)) == [9]
    assert [may_sample(4, version, 1) for version in (2, 3, 4)] == [False, True, True]
    assert [may_sample(4, version, 0) for version in (3, 4)] == [False, True]


@pytest.mark.parametrize("longest", ["rollout", "reward", "learner"])
def test_with_staleness_1_a_step_lasts_as_long_as_its_longest_stage(longest):
    sleeps = Sleeps(**{stage: 2.0 if stage == longest else 0.6 for stage in ("rollout", "reward", "learner")})
    assert simulate(SHAPE, sleeps.times(SHAPE), 12).step_seconds == pytest.approx(2.0, abs=0.01)


def test_on_policy_the_stages_wait_for_each_other():
    shape = Shape(prompts=8, group_size=8, in_flight=8, actors=4, rows=4, max_staleness=0)
    found = simulate(shape, Sleeps(1.0, 2.0, 0.5).times(shape), 6)
    assert found.step_seconds == pytest.approx(3.5)
    assert found.busy["learner"] == pytest.approx(0.5 / 3.5)


@settings(max_examples=30, deadline=None)
@given(SECONDS, SECONDS, SECONDS, st.integers(0, 2), st.floats(0.2, 1))
def test_no_simulated_step_beats_its_longest_stage(group, restoration, learner, staleness, asked):
    shape = Shape(prompts=3, group_size=2, engines=2, in_flight=2, actors=3, max_staleness=staleness)
    times = Times([group], [restoration / 10], [learner], [0.1], asked)
    steps = 8
    whole = simulate(shape, times, steps).seconds
    if asked == 1:
        assert whole >= lower_bound(shape, times) * steps * 0.999
    assert whole >= learner * steps


def in_virtual_time(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


async def when_answered(batches, dispatch=0.0, **reward):
    """When each of {priority: seconds of its queries} is answered by the real pool, over actors that sleep."""
    config = load("evaluate", [f"reward.{name}={value}" for name, value in reward.items()])
    pool, numbers = RewardPool(config, memo=0, actors=SleepingRewardActors(config.reward, dispatch)), itertools.count()

    async def score(priority, seconds):
        await pool.score([RewardQuery("picture", each, next(numbers)) for each in seconds], priority)
        return asyncio.get_running_loop().time()

    await pool.start()
    ends = await asyncio.gather(*(score(priority, seconds) for priority, seconds in batches.items()))
    await pool.close()
    return ends


def test_virtual_time_jumps_to_the_next_timer_and_threads_take_as_long_as_their_coroutine():
    async def work():
        began = time.monotonic()
        await asyncio.gather(asyncio.sleep(1000), asyncio.to_thread(asyncio.sleep, 3000), asyncio.to_thread(len, ""))
        return asyncio.get_running_loop().time(), time.monotonic() - began

    virtual, real = in_virtual_time(work())
    assert virtual == 3000
    assert real < 10


def test_who_waits_for_ever_in_virtual_time_hears_of_it():
    async def work():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        in_virtual_time(work())


def test_the_pool_ends_when_a_perfect_pull_queue_does():
    times = np.random.default_rng(0).lognormal(size=200).tolist()
    (ended,) = in_virtual_time(when_answered({0: times}, actors=7, batch=4))
    assert ended <= makespan(times, 28, "pull") + max(times)
    (ended,) = in_virtual_time(when_answered({0: [1.0] * 28}, actors=7, batch=4))
    assert ended == 1.0


def test_the_driver_hands_out_one_query_after_the_other():
    assert in_virtual_time(when_answered({0: [1.0] * 16}, dispatch=0.5, actors=4, batch=4)) == [16 * 0.5 + 1.0]


def test_older_steps_are_restored_first():
    steps = dict.fromkeys((5, 4, 3), [1.0] * 4)
    assert in_virtual_time(when_answered(steps, actors=1, batch=1)) == [12.0, 8.0, 4.0]


def test_of_two_calls_that_wait_for_slots_the_first_gets_all_of_its_first(monkeypatch):
    """Or the groups of two steps would be restored at once, and the older step would be done only with the younger."""
    monkeypatch.setattr(queue, "SLOTS", 4)
    steps = {0: [1.0] * 8, 1: [1.0] * 8}
    assert in_virtual_time(when_answered(steps, actors=4, batch=1)) == [2.0, 4.0]


def test_the_autoscaler_grows_a_pool_that_falls_behind_and_steps_become_shorter():
    times = Times([0.1], [1.0], [0.1])
    fixed = simulate(Shape(prompts=8, group_size=8, actors=2), times, 12)
    grown = simulate(Shape(prompts=8, group_size=8, actors=2, most_actors=16), times, 12)
    assert fixed.actors == 2 < grown.actors <= 16
    assert grown.seconds < fixed.seconds / 2
    assert max(fixed.queue_age) > max(grown.queue_age)


def test_a_thousand_reward_actors_cost_no_more_a_completion_than_a_few():
    """Bounds CPU time, far above what it takes: 100,000 completions are to take less than a minute."""
    shape = Shape(prompts=125, group_size=8, engines=500, in_flight=8, actors=1000)
    began = time.process_time()
    found = simulate(shape, Times([1.0], [1.0, 3.0], [1.0]), 4)
    assert found.completions == 4000
    assert time.process_time() - began < 10


def test_the_first_two_steps_and_the_last_do_not_count():
    assert lap([100.0, 109.0, 111.0, 113.0, 113.5]) == 2.0


def test_every_split_gives_each_role_something_and_leaves_nothing_over():
    found = splits(8, 1, 0.5, 1)
    assert len(found) == 21  # ways to cut 8 into three
    assert all(sum(split.gpus) == 8 and min(split.gpus) >= 1 for split in found)
    assert all(split.actors == 2 * split.gpus[1] for split in found)
    assert {split.engines for split in splits(8, 2, 1, 1)} == {1, 2, 3}


@pytest.fixture
def rl_run(tmp_path):
    """The folder of a run whose rewards are the bottleneck: 1 s of work each, two actors, half of them gated."""
    config = load("offline", [f"out={tmp_path}/offline", "grpo.prompts=2", "rollout.group_size=4"])
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / "config.yaml").write_text(config_to_yaml(config, "offline"))
    trace, lines = Trace(folder / "trace.json"), []
    for step in range(6):
        now = 2.0 * step
        for prompt in range(2):
            trace.span("rollout", "engine", f"step {step} picture-{prompt}", now, 0.5)
        trace.span("learner", "ranks", f"step {step}", now + 1.5, 0.4)
        trace.span("learner", "sync", f"version {step + 1}", now + 1.9, 0.1)
        rewards = {"restored": 4, "asked": 4}
        lines.append({"step": step + 1, "busy": {"reward": 4.0}, "completions": 8, "rewards": rewards})
    trace.close()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_service_times_come_from_the_trace_and_the_metrics_of_a_run(rl_run):
    found = read_run(rl_run)
    assert (set(found.times.group), set(found.times.learner), set(found.times.sync)) == ({0.5}, {0.4}, {0.1})
    assert (set(found.times.restoration), found.times.asked) == ({1.0}, 0.5)
    assert found.step_seconds == pytest.approx(2.0)
    assert (found.shape.prompts, found.shape.group_size, found.shape.actors) == (2, 4, 2)


def test_a_run_whose_rewards_another_pool_made_is_no_basis_for_a_plan(rl_run, capsys):
    config = load("offline", [f"out={rl_run}", "reward.pool=shared"])
    (rl_run / "config.yaml").write_text(config_to_yaml(config, "offline"))
    with pytest.raises(UserError, match="shared pool 'shared'"):
        report(["gpus=8", f"run={rl_run}"])
    assert main(["simulate", "--run", str(rl_run)]) == 2
    assert "shared pool 'shared'" in capsys.readouterr().err


def test_a_plan_gives_the_bottleneck_most_gpus(rl_run):
    plans = plan(read_run(rl_run), 8)
    best = plans[0]
    assert best.split.gpus[1] >= 5  # rewards
    assert [p.prediction.step_seconds for p in plans] == sorted(p.prediction.step_seconds for p in plans)
    assert f"reward.actors={best.split.actors}" in table(read_run(rl_run), plans)


def test_a_plan_names_what_it_needs(rl_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected gpus=N"):
        report(["gpu=8"])
    with pytest.raises(UserError, match="expected an RL run in ./runs"):
        report(["gpus=8"])
    with pytest.raises(UserError, match="do not hold the three roles"):
        report(["gpus=2", f"run={rl_run}"])
    with pytest.raises(UserError, match="folder of a run"):
        report(["gpus=8", f"run={tmp_path}"])
    assert "rollout" in report(["gpus=3", f"run={rl_run}"])


def test_the_gate_names_the_ratio_that_fell():
    expected = {"a": gate.Expected(0.9, 0.1), "b": gate.Expected(1.0, 0.5, lower_is_better=True)}
    assert gate.broken({"a": 0.82, "b": 1.4}, expected) == []
    assert gate.broken({"a": 0.80, "b": 1.6}, expected) == ["a is 0.800, was 0.9", "b is 1.600, was 1"]
    with pytest.raises(ValueError, match="differ"):
        gate.broken({"a": 1.0}, expected)
