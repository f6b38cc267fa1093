"""What the service does, without HTTP: asks the policy, restores on the pool of reward actors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from configs.schema import Config
from envs.language.reading import read_text
from envs.taxonomy import Degradation
from envs.types import Prompt, RewardQuery, Scored
from envs.world import policy_folder, world_taxonomy
from reward_actors.pool.pool import RewardPool
from rollout.pool import RolloutPool
from rollout.vllm.sampling import answer_temperature
from service.pictures import as_sample
from service.pixels import policy_view, to_photo


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

    async def start(self) -> None:
        """Returns when the engine and the reward actors answer."""
        await asyncio.gather(self._rollouts.start(), self._rewards.start())

    async def read(self, picture: np.ndarray) -> Answer:
        """What the policy reads off a uint8 (H, W, 3) picture: it sees the central square at its own resolution."""
        view, ratio = policy_view(picture, self._config.world.size)
        sample, rollout = as_sample(view), self._config.rollout
        options = {"n": 1, "temperature": answer_temperature(rollout), "grammar": rollout.grammar}
        async for group in self._rollouts.sample([Prompt(sample.sample_id, sample)], **options):
            text = group.completions[0].text
        found = read_text(text, self._taxonomy).degradation
        return Answer(to_photo(found, ratio) if found else None, text)

    async def restore(self, picture: np.ndarray, degradation: Degradation) -> np.ndarray:
        """uint8 (H, W, 3), restored. Raises Unanswered with the pool's reason."""
        sample = as_sample(picture)
        (result,) = await self._rewards.score([RewardQuery(sample.sample_id, sample, degradation, picture=True)])
        if not isinstance(result, Scored):
            raise Unanswered(f"not restored: {result.reason}")
        return result.picture

    def counts(self) -> dict:
        """The state of the pool that restores."""
        stats = self._rewards.stats()
        return {"actors": stats.actors, "queued": stats.queued, "scored": stats.scored}

    async def close(self) -> None:
        await asyncio.gather(self._rollouts.close(), self._rewards.close())
