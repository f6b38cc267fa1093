"""Both ends of the way from the pool to a reward actor and back.

A Ray call costs the driver about as much as all else that it does for a completion. So queries that are assigned
together travel in one call, and one call fetches every answer that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import ray
from ray.actor import ActorHandle

from configs import UserError
from configs.cluster.background import Background
from configs.schema import Reward
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.stats import Ready, Report

T = TypeVar("T")

START_SECONDS = 180.0
"""How long an actor may take to load its prior."""


class RejectedQueryError(ValueError):
    """Says why a query can never be restored, whoever tries."""


@dataclass(frozen=True)
class Answer:
    """Carries the result of the query `serial` back from an actor: `Failed` where it, or a neighbour, broke something.

    final: whether trying again is known to change nothing.
    """

    serial: int
    result: Scored | Failed | UserError
    final: bool = False


@dataclass(frozen=True)
class Finished:
    """Carries all answers since the last ones, at least one, the actor's report, and its `steps` by now."""

    answers: tuple[Answer, ...]
    report: Report
    steps: int = 0


class BatchedWorker:
    """Takes queries and hands out answers for a subclass, which scores them one by one.

    The subclass has `async open() -> Ready`, `async score(query) -> Scored`, which may raise, `report() -> Report`
    and `async steps() -> int`, which grows while work goes on.
    """

    score: Callable[[RewardQuery], Awaitable[Scored]]
    report: Callable[[], Report]
    steps: Callable[[], Awaitable[int]]

    def __init__(self):
        self._answers: list[Answer] = []
        self._answered = asyncio.Event()
        self._background = Background()

    async def put(self, batch: Sequence[tuple[int, RewardQuery]]) -> None:
        """Takes queries in, each with the number by which its answer is known."""
        for serial, query in batch:
            self._background.spawn(self._score(serial, query))

    async def take(self) -> Finished:
        """Hands out what is done; waits for the first answer, and no longer."""
        await self._answered.wait()
        self._answered.clear()
        answers, self._answers = self._answers, []
        return Finished(tuple(answers), self.report(), await self.steps())

    async def _score(self, serial: int, query: RewardQuery) -> None:
        try:
            answer = Answer(serial, await self.score(query))
        except UserError as error:
            answer = Answer(serial, error, final=True)
        except RejectedQueryError as error:
            answer = Answer(serial, Failed(str(error)), final=True)
        except Exception as error:  # the pool asks once more, alone, before it believes that the query is to blame
            answer = Answer(serial, Failed(f"{type(error).__name__}: {error}"))
        self._answers.append(answer)
        self._answered.set()


class RayActors:
    """Makes the actors of a pool, each a Ray actor with a process of its own.

    The pool knows its actors only by this class and `RayActor`; a test or a simulation gives it others like them.
    """

    def __init__(self, actor_class: type, settings: Reward, size: int):
        """actor_class: a `BatchedWorker`, made with (name, settings, size). size: side of its pictures, pixels."""
        self._actor_class, self._settings, self._size = actor_class, settings, size

    def create(self, name: str) -> RayActor:
        """Starts an actor; `open` it."""
        actor = ray.remote(self._actor_class).options(
            num_cpus=self._settings.cpus,
            num_gpus=self._settings.gpus,
            scheduling_strategy="SPREAD",  # each by itself, on whichever node has most room
            max_restarts=0,  # the pool starts another one itself: with a pause, and knowing what was lost
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        ).remote(name, self._settings, self._size)  # fmt: skip
        needs = f"{self._settings.cpus:g} CPUs and {self._settings.gpus:g} GPUs"
        return RayActor(actor, f"reward actor {name} not ready in {START_SECONDS:g} s: it needs {needs}")

    def capacity(self) -> int:
        """Returns how many more actors the free resources of the cluster would hold."""
        free = ray.available_resources()
        needs = {"CPU": self._settings.cpus, "GPU": self._settings.gpus}
        return int(min((free.get(name, 0.0) / need + 1e-6 for name, need in needs.items() if need), default=1e6))


class RayActor:
    """Reaches one reward actor; its `put`, `take` and `steps` are those of its actor, to be awaited.

    After the actor's death each call raises RayActorError.
    """

    def __init__(self, actor: ActorHandle, late: str):
        """late: what to say where it is not ready in time."""
        self._actor, self._late = actor, late
        self.put = actor.put.remote
        self.take = actor.take.remote
        self.steps = actor.steps.remote

    async def open(self) -> Ready:
        """Waits until the actor has loaded its prior.

        Raises:
            UserError: it cannot be placed or its prior cannot be loaded.
            ray.exceptions.RayActorError: it died on the way.
        """
        try:
            return await asyncio.wait_for(unwrap_user_error(self._actor.open.remote()), START_SECONDS)
        except TimeoutError:
            raise UserError(f"{self._late}; free in the cluster: {ray.available_resources()}") from None

    async def profile(self, folder: str) -> None:
        """Begins a trace where `folder` is empty, else writes it there; stand-ins of reward actors may lack it."""
        await self._actor.profile.remote(folder)

    def kill(self) -> None:
        """Ends the process of the actor at once."""
        ray.kill(self._actor)


async def unwrap_user_error(answer: Awaitable[T]) -> T:
    """Awaits the answer of an actor; its UserError comes without the actor's traceback, in which Ray wraps it."""
    try:
        return await answer
    except UserError as error:
        raise UserError(str(error.args[0])) from None
