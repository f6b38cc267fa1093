"""Runs the RL loop in virtual time: the real loop, collector, pools, dispatcher and autoscaler, on a clock that jumps.

What is not real sleeps on that clock: engines, reward actors, learner, weight updates. Nothing fails, no group is
refilled, and equal answers are taken off the number of queries beforehand, by `Times.asked`. What the driver does
takes no time but `Times.dispatch`.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.throughput.loop.shape import Shape, Times, lap
from benchmarks.throughput.loop.stubs import StandIn
from benchmarks.throughput.simulation.clock import VirtualLoop
from configs.schema import Config, Reward
from envs.types import Completion, Gated, Group, Prompt, RewardQuery, Scored
from learner.rl.environment import Environment
from learner.rl.job import Loop, Stages
from reward_actors.pool.autoscaler import LOOK_SECONDS
from reward_actors.pool.pool import RewardPool
from rollout.pool import RolloutPool
from rollout.replicas import EngineSet
from rollout.weights.manifest import Manifest

WORK = ("group", "restoration", "learner", "sync")
FOREVER = 1e9
"""Seconds after which a stage would count as hanging: a service time may be as long as it likes."""


@dataclass(frozen=True)
class Prediction:
    """Says how a loop runs.

    step_seconds: of a step in the middle, see `lap`. queue_age: mean and most over looks a second apart.
    busy: share of the time in which rows of the reward actors, places of the engines and the learner worked.
    """

    step_seconds: float
    seconds: float
    completions: int
    queue_age: tuple[float, float]
    busy: dict[str, float]
    actors: int

    @property
    def completions_per_second(self) -> float:
        return self.completions / self.seconds


def simulate(shape: Shape, times: Times, steps: int, seed: int = 0) -> Prediction:
    """Runs `steps` steps of the loop, four at least."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_Simulation(shape, times, seed).run(steps, Path(folder)))


class _Simulation:
    """Holds what the stages of one loop share: service times to come, the seconds they have worked, when steps end."""

    def __init__(self, shape: Shape, times: Times, seed: int):
        self.shape, self.times, self.rng = shape, times, np.random.default_rng(seed)
        self._times = {name: _drawn(getattr(times, name), self.rng) for name in WORK}
        self._worked = dict.fromkeys(WORK, 0.0)
        self._ages, self._row_seconds, self._actors, self.ends = [], 0.0, shape.actors, []

    def draw(self, work: str) -> float:
        """Returns the seconds of the next piece of work, which are counted."""
        seconds = next(self._times[work])
        self._worked[work] += seconds
        return seconds

    async def sleep(self, work: str) -> float:
        """Takes as long as the next piece of work."""
        seconds = self.draw(work)
        await asyncio.sleep(seconds)
        return seconds

    async def run(self, steps: int, out: Path) -> Prediction:
        """Takes `steps` steps; writes into `out`."""
        config, shape = self.shape.configured(Config(), steps, out), self.shape
        patient = replace(config.rollout, timeout=FOREVER), replace(config.reward, timeout=FOREVER)
        config = replace(config, rollout=patient[0], reward=patient[1])
        actors = SleepingRewardActors(config.reward, self.times.dispatch)
        rewards = RewardPool(config, memo=0, environment=_Rules(self), actors=actors)
        stages = Stages(
            lambda *given: RolloutPool(*given, engine_set=partial(_EngineSet, self)),
            lambda *_: rewards,
            lambda *_: _Learner(self),
            lambda *_: _Log(self),
            lambda sample: sample,
        )
        looking = asyncio.create_task(self._look(rewards))
        await Loop(config, "offline", out, Environment(_Rules(self), range(steps * shape.prompts)), None, stages).run()
        looking.cancel()
        seconds, places = self.ends[-1], shape.engines * shape.in_flight
        rows = max(self._row_seconds, seconds * shape.actors * shape.rows)
        return Prediction(
            lap(self.ends),
            seconds,
            steps * shape.prompts * shape.group_size,
            (float(np.mean(self._ages or [0.0])), max(self._ages, default=0.0)),
            {
                "rollout": self._worked["group"] / (seconds * places),
                "reward": self._worked["restoration"] / rows,
                "learner": self._worked["learner"] / seconds,
            },
            self._actors,
        )

    async def _look(self, rewards: RewardPool) -> None:
        """Looks at the pool as often as its autoscaler does."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            stats = rewards.stats()
            self._actors = stats.actors
            self._ages.append(stats.queue_age)
            self._row_seconds += stats.actors * self.shape.rows * LOOK_SECONDS


class _Rules:
    """In the place of an `OnlineEnvironment`: gates by chance, and asks for a restoration that takes its time."""

    def __init__(self, simulation: _Simulation):
        self._simulation, self._numbers = simulation, itertools.count()

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        return (Prompt(f"picture-{i}", i) for i in itertools.count(start))

    def judge(self, prompt: Prompt, completion: Completion) -> Gated | RewardQuery:
        if self._simulation.rng.random() >= self._simulation.times.asked:
            return Gated("by chance")
        return RewardQuery(prompt.sample_id, self._simulation.draw("restoration"), next(self._numbers))


class SleepingRewardActors:
    """Makes actors of this process in the place of `RayActors`, that sleep as long as a query's `sample` says.

    dispatch: seconds of the driver, which hands out one query after the other.
    """

    def __init__(self, settings: Reward, dispatch: float = 0.0):
        self._settings, self._dispatch, self._driver = settings, dispatch, asyncio.Lock()

    def create(self, name: str) -> StandIn:
        return _RewardActor(name, self._settings, self._dispatch, self._driver)

    def capacity(self) -> int:
        return self._settings.max_actors


class _RewardActor(StandIn):
    """In the place of a `RayActor`."""

    def __init__(self, name: str, settings: Reward, dispatch: float, driver: asyncio.Lock):
        super().__init__(name, settings, 0)
        self._dispatch, self._driver = dispatch, driver

    async def score(self, query: RewardQuery) -> Scored:
        if self._dispatch:
            async with self._driver:
                await asyncio.sleep(self._dispatch)
        return await super().score(query)

    def kill(self) -> None: ...


class _EngineSet(EngineSet):
    """In the place of engines that are Ray actors; each is the same simulated one."""

    def __init__(self, simulation: _Simulation, *given):
        super().__init__(*given)
        self._simulation = simulation
        self._completions = (Completion("", (0,), (0.0,)),) * simulation.shape.group_size

    async def start(self) -> None:
        for engine in self._engines:
            engine.handle = SimpleNamespace(generate=SimpleNamespace(remote=self._generate))
            self._admit(engine)

    async def _generate(self, prompt: Prompt, *_) -> Group:
        return Group(prompt, self._completions, 0, await self._simulation.sleep("group"))

    async def close(self) -> None: ...


class _Learner:
    """In the place of a `LearnerGroup`, whose calls take as long as the coroutines that they give here."""

    def __init__(self, simulation: _Simulation):
        self._simulation = simulation

    async def grpo_step(self, taken: Sequence) -> dict[str, float]:
        return {"seconds": await self._simulation.sleep("learner")}

    def weight_manifest(self) -> Manifest:
        return Manifest((), (), ())

    async def send_weights(self, engines: Sequence, whole: bool) -> int:
        await self._simulation.sleep("sync")
        return 0

    def save(self, folder: Path) -> None: ...

    def save_policy(self, folder: Path) -> None: ...

    def close(self) -> None: ...


class _Log:
    """In the place of a `RunLog`: notes when the weights of each step are out."""

    def __init__(self, simulation: _Simulation):
        self._ends = simulation.ends

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *error) -> None: ...

    def step(self, step: int, metrics: dict) -> None:
        self._ends.append(asyncio.get_running_loop().time())

    def span(self, *_) -> None: ...

    def timed(self, *_) -> nullcontext:
        return nullcontext()

    def summary(self, values: dict) -> None: ...


def _drawn(values: Sequence[float], rng: np.random.Generator) -> Iterator[float]:
    """Yields draws from `values` without end."""
    while True:
        yield from np.asarray(values, dtype=float)[rng.integers(len(values), size=4096)].tolist()
