"""The real RL loop with stages that sleep: `learner.rl.job.Loop` and its pools, over actors that do no work.

Queue, pools, gate, weight updates and log are the real ones. What the stages last is written into the folder that a
policy would be in.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.throughput.loop.shape import Shape, Times, lap
from benchmarks.throughput.loop.stubs import SleepingEngine, SleepingWorker, StandIn
from configs.schema import Config
from envs.environment import OnlineEnvironment
from envs.taxonomy import TAXONOMY
from envs.types import Prompt
from learner.distributed.group import LearnerGroup
from learner.logging import trace
from learner.rl.environment import Environment
from learner.rl.job import Loop, Stages
from reward_actors.pool.pool import RewardPool
from rollout.pool import RolloutPool


@dataclass(frozen=True)
class Sleeps:
    """Seconds of one step in each stage, if it had nothing to wait for: all groups, all restorations, the learner."""

    rollout: float
    reward: float
    learner: float

    def times(self, shape: Shape) -> Times:
        """The same as seconds of each piece of work, for stages that are always full."""
        group = self.rollout * shape.engines * shape.in_flight / shape.prompts
        restoration = self.reward * shape.actors * shape.rows / (shape.prompts * shape.group_size)
        return Times([group], [restoration], [self.learner])


class _ClockedEnvironment(OnlineEnvironment):
    """Notes the CPU seconds of this process whenever a step's prompts are drawn."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.marks: list[float] = []

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        self.marks.append(time.process_time())
        return super().prompts(seed, start)


def run_loop(
    config: Config,
    shape: Shape,
    times: Times,
    steps: int,
    out: Path,
    samples: Sequence | None = None,
    reward_class: type = StandIn,
) -> tuple[float, float]:
    """Runs the loop with its log in `out`; the process must be connected to a cluster.

    Args:
        samples: what the prompts point to, and `reward_class` takes; seconds to sleep if None.

    Returns:
        Seconds of a step, and CPU seconds of this process in it.
    """
    config = shape.configured(config, steps, out)
    policy = out / "sleeps"
    policy.mkdir(parents=True)
    (policy / "sleeps.json").write_text(json.dumps({"group": times.group[0], "learner": times.learner[0]}))
    count = shape.prompts * steps  # a picture that comes again might be asked while it is under way, and shared
    prompts = [Prompt(f"picture-{i}", i) for i in range(count)]
    environment = _ClockedEnvironment(prompts, TAXONOMY)
    world = Environment(environment, [times.restoration[0]] * count if samples is None else samples)
    stages = Stages(
        partial(RolloutPool, actor_class=SleepingEngine),
        lambda config, environment: RewardPool(config, reward_class, 0, environment=environment),
        partial(LearnerGroup, worker_class=SleepingWorker),
    )
    asyncio.run(Loop(config, "offline", policy, world, None, stages).run())
    return lap(step_ends(out)), lap(environment.marks)


def step_ends(out: Path) -> list[float]:
    """When the weights of each step were out, seconds since the epoch, from the trace of a run."""
    spans = trace.read_spans(out / "trace.json")
    return [span.end for span in spans if (span.process, span.thread) == ("learner", "sync")]
