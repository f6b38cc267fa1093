"""A query in an actor, until it is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from envs.types import RewardQuery, Sample, Scored
from reward_actors.restoration.running_batch import to_uint8


@dataclass
class Waiting:
    """arrived: seconds, as `time.perf_counter`."""

    query: RewardQuery
    sample: Sample
    arrived: float = field(default_factory=time.perf_counter)
    result: asyncio.Future = field(default_factory=asyncio.Future)

    def scored(self, reward: float, parts: dict[str, float], actor: str, restored: np.ndarray) -> Scored:
        """What it is answered, with the restored picture where it wants it."""
        picture = to_uint8(restored) if self.query.picture else None
        return Scored(reward, parts, actor, time.perf_counter() - self.arrived, picture=picture)

    def answer(self, answer: Scored | Exception) -> None:
        """Ends it, if somebody waits for it still."""
        if self.result.done():
            return
        if isinstance(answer, Exception):
            self.result.set_exception(answer)
        else:
            self.result.set_result(answer)
