"""What the service does, without HTTP: asks the policy, restores on the pool of reward actors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.quality.restore import policy_view, to_photo
from benchmarks.service.pictures import as_sample
from configs.schema import Config
from envs.metrics import read_text
from envs.policy_world import policy_folder, world_taxonomy
from envs.samples import Prompt, RewardQuery, Scored
from envs.taxonomy import Degradation
from reward_actors.pool import RewardPool
from rollout.pool import RolloutPool
from rollout.sampling import answer_temperature

AT_ONCE = 16
"""Requests under way at once; who comes later is asked to come again."""


class NoRoomError(RuntimeError):
    """Too many requests are under way."""


class Unanswered(RuntimeError):  # noqa: N818 - it is an answer that is missing, not a fault of the caller
    """The pool could not restore; the message is its reason."""


@dataclass(frozen=True)
class Answer:
    """degradation: in pixels of the picture, None without a valid answer; text: the policy's words."""

    degradation: Degradation | None
    text: str


class Service:
    """Both pools behind two calls. `await start()` first."""

    def __init__(self, config: Config):
        reward = replace(config.reward, scorer=["consistency"])  # nobody knows the truth of an upload
        self._config = replace(config, reward=reward)
        self._taxonomy = world_taxonomy(config.world)
        self._rollouts = RolloutPool(self._config, policy_folder(config.policy, config.world))
        self._rewards = RewardPool(self._config)
        self._under_way = 0

    async def start(self) -> None:
        """Returns when the engine and the reward actors answer."""
        await asyncio.gather(self._rollouts.start(), self._rewards.start())

    async def read(self, picture: np.ndarray) -> Answer:
        """What the policy reads off a uint8 (H, W, 3) picture: it sees the central square at its own resolution."""
        with self._room():
            view, ratio = policy_view(picture, self._config.world.size)
            sample = as_sample(view)
            drawn = answer_temperature(self._config.rollout)
            async for group in self._rollouts.sample([Prompt(sample.sample_id, sample)], n=1, temperature=drawn):
                text = group.completions[0].text
        found = read_text(text, self._taxonomy).degradation
        return Answer(to_photo(found, ratio) if found else None, text)

    async def restore(self, picture: np.ndarray, degradation: Degradation) -> np.ndarray:
        """uint8 (H, W, 3), restored. Raises Unanswered with the pool's reason."""
        sample = as_sample(picture)
        with self._room():
            (result,) = await self._rewards.score([RewardQuery(sample.sample_id, sample, degradation, picture=True)])
        if not isinstance(result, Scored):
            raise Unanswered(f"not restored: {result.reason}")
        return result.picture

    def counts(self) -> dict:
        """Requests under way, and the state of the pool."""
        stats = self._rewards.stats()
        return {"under_way": self._under_way, "actors": stats.actors, "queued": stats.queued, "scored": stats.scored}

    async def close(self) -> None:
        await asyncio.gather(self._rollouts.close(), self._rewards.close())

    def _room(self) -> _Room:
        if self._under_way >= AT_ONCE:
            raise NoRoomError(f"{AT_ONCE} requests are under way already; come again in a few seconds")
        return _Room(self)


class _Room:
    """Counts one request while it lasts."""

    def __init__(self, service: Service):
        self._service = service

    def __enter__(self) -> None:
        self._service._under_way += 1

    def __exit__(self, *_) -> None:
        self._service._under_way -= 1
