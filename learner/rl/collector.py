"""What a step learns from: the groups of its prompts, sampled by the engines, gated, scored by the reward actors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

from configs.schema import Config
from envs.types import Group, Prompt, Sample
from learner.logging.runlog import RunLog
from learner.rl.advantages import JudgedGroup, has_zero_advantage
from learner.rl.environment import Environment
from learner.rl.staleness import Pace
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.shared.client import SharedPool
from rollout.pool import RolloutPool


class GroupCollector:
    """Collects the judged groups of several steps at a time; each waits until the weights are new enough for it."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        rollouts: RolloutPool,
        rewards: RewardPool | SharedPool,
        pace: Pace,
        log: RunLog,
        put: Callable[[Sample], Any],
    ):
        """put: puts a sample into the object store."""
        self._put = put
        self._config, self._environment, self._pace, self._log = config, environment, pace, log
        self._rollouts, self._rewards = rollouts, rewards

    async def collect(self, step: int) -> list[JudgedGroup]:
        """Returns the groups of one step, in the order of its prompts.

        Restorations begin while other prompts are still sampled. Groups without an advantage are replaced, at most
        `refill` of them. Their prompts come from a second stream: so those of a step follow from its number alone, and
        neither a resumed run nor the next step, under way already, depends on what was replaced.
        """
        await self._pace.fresh(step)
        grpo, seed = self._config.grpo, self._config.seed
        judged = await self._sample_and_judge(step, seed, step * grpo.prompts, grpo.prompts)
        spare, last = step * grpo.refill, (step + 1) * grpo.refill
        while spare < last and (flat := [i for i, item in enumerate(judged) if has_zero_advantage(item)]):
            flat = flat[: last - spare]
            fresh = await self._sample_and_judge(step, seed + 1, spare, len(flat))
            spare += len(flat)
            for i, item in zip(flat, fresh, strict=True):
                judged[i] = replace(item, replaced=judged[i].replaced + 1)
        return judged

    async def _sample_and_judge(self, step: int, seed: int, start: int, count: int) -> list[JudgedGroup]:
        """Judges the groups of `count` prompts of the stream `seed` from `start` on, in the order of the prompts."""
        judging = {}
        try:
            async with self._pace.sampling:
                stream = self._environment.rules.prompts(seed, start)
                prompts = [self._put_sample(prompt) for prompt in islice(stream, count)]
                async for group in self._rollouts.sample(prompts, seed=seed, start=start):
                    name, began = f"step {step} {group.prompt.sample_id}", time.time() - group.seconds
                    self._log.span("rollout", "engine", name, began, group.seconds)
                    judging[group.prompt.sample] = asyncio.create_task(self._judge(group, step))
            return list(await asyncio.gather(*[judging[prompt.sample] for prompt in prompts]))
        finally:  # where sampling or one of them failed, nobody waits for the others
            for task in judging.values():
                task.cancel()

    async def _judge(self, group: Group, step: int) -> JudgedGroup:
        """Gates the group's completions on this CPU; only what passes is restored."""
        began = time.time()
        verdicts = await self._rewards.judge(group.prompt, group.completions, priority=step)
        ended = time.time()
        self._log.span("reward", "pool", f"step {step} {group.prompt.sample_id}", began, ended - began)
        return JudgedGroup(group, tuple(verdicts), began, ended)

    def _put_sample(self, prompt: Prompt) -> Prompt:
        """Puts the prompt's sample into the object store: it travels once, as uint8, and by reference after."""
        return replace(prompt, sample=self._put(self._environment.samples[prompt.sample]))
