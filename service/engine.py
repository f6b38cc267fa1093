"""What the service does, without HTTP: asks the policy, restores on the pool of reward actors."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from configs.schema import Config
from envs.degradations import Coding, part_of, with_coding
from envs.language.reading import read_free_text
from envs.taxonomy import Degradation
from envs.types import Group, Prompt, RewardQuery, Scored
from envs.world import policy_folder, world_taxonomy
from reward_actors.pool.pool import RewardPool
from reward_actors.restoration.frame import completed
from reward_actors.restoration.pieces import LARGE, Mosaic, margin_of, noise_of, piece_of, restorer_for
from rollout.pool import RolloutPool
from rollout.vllm.sampling import answer_temperature
from service.pictures import as_sample
from service.pixels import gray_as, policy_view, to_photo
from service.reading.engine import ReadCompletion, ReadingActor
from service.reading.questions import Reading


class Unanswered(RuntimeError):  # noqa: N818 - it is an answer that is missing, not a fault of the caller
    """The pool could not restore; the message is its reason."""


class Service:
    """Both pools behind two calls. `await start()` first."""

    def __init__(self, config: Config):
        reward = replace(config.reward, scorer=["consistency"])  # nobody knows the truth of an upload
        self._config = replace(config, reward=reward)
        self._taxonomy = world_taxonomy(config.world)
        self._rollouts = RolloutPool(self._config, policy_folder(config.policy, config.world), ReadingActor)
        self._rewards = RewardPool(self._config, memo=0)  # a pool remembers no pictures

    async def start(self) -> None:
        """Returns when the engine and the reward actors answer."""
        await asyncio.gather(self._rollouts.start(), self._rewards.start())

    async def read(self, picture: np.ndarray) -> Reading:
        """What the policy reads off a uint8 (H, W, 3) picture of any size, in its pixels."""
        sample, rollout = as_sample(picture), self._config.rollout
        options = {"n": 1, "temperature": answer_temperature(rollout), "grammar": rollout.grammar}
        async for group in self._rollouts.sample([Prompt(sample.sample_id, sample)], **options):
            return self._reading(group, picture)
        raise Unanswered("the policy gave no answer")

    def _reading(self, group: Group, picture: np.ndarray) -> Reading:
        (completion,) = group.completions
        if isinstance(completion, ReadCompletion) and completion.reading:
            return completion.reading
        answer = read_free_text(completion.text, self._taxonomy)  # of a policy without answer tokens
        _, ratio = policy_view(picture, self._config.world.size)
        return Reading(answer.degradation and to_photo(answer.degradation, ratio), completion.text, answer.reason)

    async def restore(
        self, picture: np.ndarray, degradation: Degradation, coding: Coding | None = None
    ) -> np.ndarray:
        """uint8 (H, W, 3), restored at its own size, in tiles where it is large.

        coding: how the file it came in was written, if as JPEG. Raises Unanswered with the pool's reason.
        """
        whole, window = await asyncio.to_thread(completed, picture, degradation)
        height, width = whole.shape[:2]
        mosaic = Mosaic(height, width, margin_of(degradation))
        estimated = self._config.reward.noise == "estimated"
        noise = await asyncio.to_thread(noise_of, picture, degradation, estimated, coding)
        degradation = with_coding(degradation, coding)
        reward, pixels = self._config.reward, picture.shape[0] * picture.shape[1]
        chosen = restorer_for(reward.restorer, reward.steps, pixels).name if pixels > LARGE else ""
        pieces = await asyncio.to_thread(lambda: [piece_of(whole, tile, degradation, noise) for tile in mosaic.tiles])
        queries = [
            _query(piece, part_of(degradation, tile.window, (height, width)), noise, chosen)
            for tile, (piece, _) in zip(mosaic.tiles, pieces, strict=True)
        ]
        results = await self._rewards.score(queries)
        for tile, (_, inside), result in zip(mosaic.tiles, pieces, results, strict=True):
            if not isinstance(result, Scored):
                raise Unanswered(f"not restored: {result.reason}")
            mosaic.add(tile, result.picture[inside])
        return gray_as(picture, mosaic.picture()[window].round().astype(np.uint8))

    def counts(self) -> dict:
        """The state of the pool that restores."""
        stats = self._rewards.stats()
        return {"actors": stats.actors, "queued": stats.queued, "scored": stats.scored}

    async def close(self) -> None:
        await asyncio.gather(self._rollouts.close(), self._rewards.close())


def _query(piece: np.ndarray, degradation: Degradation, noise: float | None, restorer: str) -> RewardQuery:
    """Asks for a piece of a picture, restored by the restorer of this name."""
    sample = replace(as_sample(piece), noise=noise)
    return RewardQuery(sample.sample_id, sample, degradation, picture=True, restorer=restorer)
