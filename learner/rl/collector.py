"""What a step learns from: the groups of its prompts, sampled by the engines, gated, scored by the reward actors."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import islice

import ray

from configs.schema import Config
from envs.types import Group, Prompt, RewardQuery
from learner.logging.runlog import RunLog
from learner.rl.advantages import JudgedGroup, teaches_nothing
from learner.rl.staleness import Pace
from learner.rl.worlds import JobWorld
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.shared.client import SharedPool
from reward_actors.scoring.agreement import with_agreement
from rollout.pool import RolloutPool


class Batches:
    """`collect(step)`, for several steps at a time: each waits until the weights are new enough for it."""

    def __init__(
        self,
        config: Config,
        world: JobWorld,
        rollouts: RolloutPool,
        rewards: RewardPool | SharedPool,
        pace: Pace,
        log: RunLog,
    ):
        self._config, self._world, self._pace, self._log = config, world, pace, log
        self._rollouts, self._rewards = rollouts, rewards

    async def collect(self, step: int) -> list[JudgedGroup]:
        """The groups of one step, in the order of its prompts.

        Restorations begin while other prompts are still sampled. Groups that would teach nothing are replaced, at
        most `refill` of them. Their prompts come from a second stream: so those of a step follow from its number
        alone, and neither a resumed run nor the next step, under way already, depends on what was replaced.
        """
        await self._pace.fresh(step)
        grpo, seed = self._config.grpo, self._config.seed
        judged = await self._sampled(step, seed, step * grpo.prompts, grpo.prompts)
        spare, last = step * grpo.refill, (step + 1) * grpo.refill
        while flat := [i for i, item in enumerate(judged) if teaches_nothing(item)][: last - spare]:
            fresh = await self._sampled(step, seed + 1, spare, len(flat))
            spare += len(flat)
            for i, item in zip(flat, fresh, strict=True):
                judged[i] = replace(item, replaced=judged[i].replaced + 1)
        return judged

    async def _sampled(self, step: int, seed: int, start: int, count: int) -> list[JudgedGroup]:
        """The groups of `count` prompts of the stream `seed` from `start` on, judged, in the order of the prompts."""
        judging = {}
        try:
            async with self._pace.sampling:
                prompts = [self._sent(p) for p in islice(self._world.environment.prompts(seed, start), count)]
                async for group in self._rollouts.sample(prompts, seed=seed, start=start):
                    name, began = f"step {step} {group.prompt.sample_id}", time.time() - group.seconds
                    self._log.span("rollout", "engine", name, began, group.seconds)
                    judging[group.prompt.sample] = asyncio.create_task(self._judge(group, step))
            return list(await asyncio.gather(*[judging[prompt.sample] for prompt in prompts]))
        finally:  # where sampling or one of them failed, nobody waits for the others
            for task in judging.values():
                task.cancel()

    async def _judge(self, group: Group, step: int) -> JudgedGroup:
        """Gate first, on this CPU; only what passes is restored."""
        began = time.time()
        verdicts: list = [
            self._world.environment.judge(group.prompt, completion) for completion in group.completions
        ]
        asked = [index for index, verdict in enumerate(verdicts) if isinstance(verdict, RewardQuery)]
        queries = [verdicts[index] for index in asked]
        scores = await self._rewards.score(queries, priority=step)
        scores = with_agreement(self._config.reward.scorer, [query.degradation for query in queries], scores)
        for index, score in zip(asked, scores, strict=True):
            verdicts[index] = score
        ended = time.time()
        self._log.span("reward", "pool", f"step {step} {group.prompt.sample_id}", began, ended - began)
        return JudgedGroup(group, tuple(verdicts), began, ended)

    def _sent(self, prompt: Prompt) -> Prompt:
        """The prompt with its sample in the object store: it travels once, as uint8, and by reference after."""
        return replace(prompt, sample=ray.put(self._world.samples[prompt.sample]))
