"""`duvlm run offline` and `duvlm run online`: GRPO on restored images, in one visible loop (Section 4.3).

    prompts -> rollout -> gate -> reward queue -> scores -> group advantages -> learner step -> weights -> rollout

While the learner takes step k, the groups of step k + 1 are sampled and their restorations are under way; sampling
for step k waits until the weights of step k - max_staleness are out. The two jobs differ in their environment only.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import ray

from configs import UserError, run_folder
from configs.cluster import prepare
from configs.schema import Config
from envs.corpus import CorpusSplit, read_samples
from envs.environment import OfflineEnvironment, OnlineEnvironment
from envs.policy_world import check_world, world_taxonomy
from envs.samples import Group, Prompt, RewardQuery, Sample
from learner import checkpoint
from learner.experience import JudgedGroup, mean_reward, measures, saturated, trajectories
from learner.ranks import Learner
from learner.runlog import RunLog
from learner.sft import SHIPPED, training_corpus
from reward_actors.pool import RewardPool
from rollout.pool import RolloutPool

SATURATION_WINDOW = 10
SHOWN = ("reward", "gate_rate", "scored/psnr", "policy_kl", "staleness")


def run_offline(config: Config) -> None:
    """Structured RL on a corpus: the gate knows the type, the reward the clean image."""
    _run(config, "offline")


def run_online(config: Config) -> None:
    """Self-supervised RL: the truth never enters the job; stops when the running average of the reward saturates."""
    _run(config, "online")


def _run(config: Config, job: str) -> None:
    _check(config, job)
    out = run_folder(config, job)
    prepare(config, job)
    out.mkdir(parents=True, exist_ok=True)
    corpus = training_corpus(config, out)
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(corpus, "train", taxonomy)
    prompts = [Prompt(sample_id, index) for index, sample_id in enumerate(samples.sample_ids())]
    if job == "offline":
        truth = dict(zip(samples.sample_ids(), samples.degradations(), strict=True))
        environment = OfflineEnvironment(prompts, truth, taxonomy, config.reward.penalty)
    else:
        environment = OnlineEnvironment(prompts, taxonomy, config.reward.penalty)
    asyncio.run(Loop(config, out, environment, samples, blind=job == "online").run())


class Loop:
    """The actors of one job, and the steps they take together."""

    def __init__(
        self, config: Config, out: Path, environment: OnlineEnvironment, samples: CorpusSplit, blind: bool
    ):
        """blind: strip every truth from a sample before it leaves this process, and stop at saturation."""
        self.config, self.out, self.environment, self.samples, self.blind = (
            config,
            out,
            environment,
            samples,
            blind,
        )
        policy = policy_folder(config)
        self.rollouts, self.rewards = RolloutPool(config, policy), RewardPool(config)
        self.learner: Learner | None = None
        self.policy, self.version = policy, 0
        self.sampling = (
            asyncio.Lock()
        )  # a batch is sampled with one set of weights: sampling and syncing take turns
        self.synced = asyncio.Condition()

    async def run(self) -> None:
        config = self.config
        reference = self.policy if config.grpo.kl > 0 else None
        starting = asyncio.to_thread(Learner, config, self.policy, config.steps, reference)
        try:
            self.learner, *_ = await asyncio.gather(starting, self.rollouts.start(), self.rewards.start())
            first = await self._resume()
            with RunLog(self.out, config, config.steps, first, SHOWN) as self.log:
                last = await self._steps(first)
                policy = self.out / "policy"
                await asyncio.to_thread(self.learner.save_policy, policy)
                self.log.summary({**last, "policy": policy, "warm_start": self.policy})
        finally:
            await asyncio.gather(self.rollouts.close(), self.rewards.close())
            if self.learner:
                self.learner.close()

    async def _steps(self, first: int) -> dict:
        """The loop. Returns the metrics of the last step."""
        config, batches, rewards = self.config, {}, []
        metrics: dict = {"step": first}
        try:
            for step in range(first, config.steps):
                meter = Meter(self)
                for ahead in range(step, min(step + config.grpo.max_staleness + 1, config.steps)):
                    if ahead not in batches:
                        batches[ahead] = asyncio.create_task(self._collect(ahead))
                judged = await batches.pop(step)
                taken = trajectories(judged, config.grpo.scale_by_spread)
                with self.log.timed("learner", "ranks", f"step {step}"):
                    learned = await asyncio.to_thread(self.learner.grpo_step, taken)
                sync = await self._sync(step + 1)
                metrics = {**measures(judged, step), **learned, **sync, **meter.read(learned["seconds"])}
                self.log.step(step + 1, metrics)
                rewards.append(mean_reward(judged))
                done = step + 1 == config.steps or (self.blind and saturated(rewards, SATURATION_WINDOW))
                if done or (step + 1) % config.learner.checkpoint_every == 0:
                    await self._save(step + 1)
                if done:
                    break
        finally:
            for batch in batches.values():
                batch.cancel()
        return {"step": self.version, **metrics}

    async def _collect(self, step: int) -> list[JudgedGroup]:
        """The groups of one step, sampled and judged: restorations begin while other prompts are still sampled."""
        async with self.synced:
            await self.synced.wait_for(lambda: self.version >= step - self.config.grpo.max_staleness)
        judging, count = [], self.config.grpo.prompts
        async with self.sampling:
            prompts = [
                self._sent(p) for p in islice(self.environment.prompts(self.config.seed, step * count), count)
            ]
            async for group in self.rollouts.sample(prompts, seed=self.config.seed, start=step * count):
                now = time.time()
                self.log.span(
                    "rollout",
                    "engine",
                    f"step {step} {group.prompt.sample_id}",
                    now - group.seconds,
                    group.seconds,
                )
                judging.append(asyncio.create_task(self._judge(group, step)))
        return await asyncio.gather(*judging)

    async def _judge(self, group: Group, step: int) -> JudgedGroup:
        """Gate first, on this CPU; only what passes is restored."""
        began = time.time()
        verdicts: list = [
            self.environment.judge(group.prompt, completion) for completion in group.completions
        ]
        asked = [index for index, verdict in enumerate(verdicts) if isinstance(verdict, RewardQuery)]
        scores = await self.rewards.score([verdicts[index] for index in asked], priority=step)
        for index, score in zip(asked, scores, strict=True):
            verdicts[index] = score
        ended = time.time()
        self.log.span("reward", "pool", f"step {step} {group.prompt.sample_id}", began, ended - began)
        return JudgedGroup(group, tuple(verdicts), began, ended)

    def _sent(self, prompt: Prompt) -> Prompt:
        """The prompt with its sample in the object store: it travels once, as uint8, and by reference after."""
        sample: Sample = self.samples[prompt.sample]
        sample = replace(sample, clean=None, degradation=None) if self.blind else sample
        return replace(prompt, sample=ray.put(sample))

    async def _sync(self, version: int) -> dict:
        """Sends the learner's weights to the engines, which by then have no group under way."""
        began, before = time.time(), self.rollouts.stats().update_bytes
        async with self.sampling:
            start = time.time()
            await self.rollouts.update(LearnerWeights(self.learner, self.config, version))
            seconds = time.time() - start
        self.log.span("learner", "sync", f"version {version}", start, seconds)
        async with self.synced:
            self.version = version
            self.synced.notify_all()
        sent = self.rollouts.stats().update_bytes - before
        return {"sync": {"seconds": seconds, "waited": start - began, "bytes": sent, "version": version}}

    async def _save(self, step: int) -> None:
        draft = checkpoint.begin(self.out / "checkpoints", step)
        await asyncio.to_thread(self.learner.save, draft)
        checkpoint.finish(draft, self.config.learner.keep)

    async def _resume(self) -> int:
        """Steps already taken; the prompt cursor and all seeds follow from their number."""
        found, damage = checkpoint.newest(self.out / "checkpoints") if self.config.resume else (None, [])
        for sentence in damage:
            print(sentence, flush=True)
        if found is None:
            return 0
        print(f"continuing from {found}", flush=True)
        self.version = await asyncio.to_thread(self.learner.load, found.resolve())
        await self.rollouts.update(LearnerWeights(self.learner, self.config, self.version))
        return self.version


class LearnerWeights:
    """The learner as `RolloutPool.update` sees it."""

    def __init__(self, learner: Learner, config: Config, version: int):
        self._learner, self._rollout, self._version = learner, config.rollout, version

    async def manifest(self):
        return await asyncio.to_thread(self._learner.weight_manifest)

    async def bind(self) -> tuple[str, int]:
        return await asyncio.to_thread(
            self._learner.bind_weights, self._rollout.bucket_mb, self._rollout.timeout
        )

    async def open(self, world_size: int) -> None:
        await asyncio.to_thread(self._learner.open_weights, world_size)

    async def send(self) -> int:
        await asyncio.to_thread(self._learner.send_weights)
        return self._version


class Meter:
    """What the stages did between its making and `read`: work done, seconds busy and idle."""

    def __init__(self, loop: Loop):
        self._loop, self._began = loop, time.time()
        self._rollout, self._reward = loop.rollouts.stats(), loop.rewards.stats()
        self._rollout_busy, self._reward_busy = self._rollout.busy_seconds, sum(self._reward.busy.values())

    def read(self, learner_busy: float) -> dict:
        """learner_busy: seconds of the learner's step."""
        wall, reward = time.time() - self._began, self._loop.rewards.stats()
        config = self._loop.config
        busy = {
            "rollout": self._loop.rollouts.stats().busy_seconds - self._rollout_busy,
            "reward": sum(reward.busy.values()) - self._reward_busy,
            "learner": learner_busy,
        }
        counts = {"rollout": config.rollout.actors, "reward": max(1, reward.actors), "learner": 1}
        asked, scored = reward.asked - self._reward.asked, reward.scored - self._reward.scored
        return {
            "step_seconds": wall,
            "busy": busy,
            "idle": {stage: max(0.0, wall * counts[stage] - busy[stage]) for stage in busy},
            "rewards": {
                "asked": asked,
                "restored": scored,
                "distinct": scored / asked if asked else 0.0,
                "memo_hits": reward.memo_hits - self._reward.memo_hits,
                "shared": reward.shared - self._reward.shared,
                "image_steps": reward.image_steps - self._reward.image_steps,
                "restarts": reward.restarts - self._reward.restarts,
                "queued": reward.queued,
                "queue_age": reward.queue_age,
            },
        }


def policy_folder(config: Config) -> Path:
    """The policy that RL begins with, checked against the world's settings."""
    folder = SHIPPED if config.policy == "shipped" else Path(config.policy).resolve()
    check_world(folder, config.world)
    return folder


def _check(config: Config, job: str) -> None:
    if config.steps < 1:
        raise UserError("steps: expected at least 1 optimiser step; set steps=200 or so")
    if config.policy == "random":
        raise UserError(
            f"{job} needs a warm start: expected policy=FOLDER or policy=shipped, got policy=random"
        )
