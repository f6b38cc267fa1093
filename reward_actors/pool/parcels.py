"""How queries and answers travel between pool and actor: many in one call, each answered as soon as it is done.

A Ray call costs the driver about as much as all else that it does for a completion. So queries that are handed out
together travel in one, and one call picks up every answer that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from configs import UserError
from configs.cluster.background import Background
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.stats import Report


@dataclass(frozen=True)
class Answer:
    """What came of the query `serial` in one actor; `Failed` where it, or a neighbour, broke something."""

    serial: int
    result: Scored | Failed | UserError


@dataclass(frozen=True)
class Finished:
    """All answers since those before, never none, and what the actor has done by now; steps as its `steps` says."""

    answers: tuple[Answer, ...]
    report: Report
    steps: int = 0


class ParcelActor:
    """The base of reward actors: they have `async score(query) -> Scored`, which may raise, `report()` and
    `async steps() -> int`, which grows while work goes on."""

    def __init__(self):
        self._answers: list[Answer] = []
        self._some = asyncio.Event()
        self._background = Background()

    async def put(self, parcel: Sequence[tuple[int, RewardQuery]]) -> None:
        """Takes queries in, each with a number by which its answer is known."""
        for serial, query in parcel:
            self._background.spawn(self._score(serial, query))

    async def take(self) -> Finished:
        """Hands out what is done; waits for the first answer, and no longer."""
        await self._some.wait()
        self._some.clear()
        answers, self._answers = self._answers, []
        return Finished(tuple(answers), self.report(), await self.steps())

    async def _score(self, serial: int, query: RewardQuery) -> None:
        try:
            result = await self.score(query)
        except UserError as error:
            result = error
        except Exception as error:  # the pool asks once more, alone, before it believes that the query is to blame
            result = Failed(f"{type(error).__name__}: {error}")
        self._answers.append(Answer(serial, result))
        self._some.set()
