"""`duvlm run offline` and `duvlm run online`: GRPO on restored images, in one visible loop (Section 4.3).

    prompts -> rollout -> gate -> reward queue -> scores -> group advantages -> learner step -> weights -> rollout

While the learner takes step k, the groups of step k + 1 are sampled and their restorations are under way; sampling
for step k waits until the weights of step k - max_staleness are out. The two jobs differ in their environment only.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import ray

from configs import UserError, control, run_folder
from configs.cluster import prepare
from configs.schema import Config
from envs.corpus import CorpusSplit, read_samples
from envs.environment import OfflineEnvironment, OnlineEnvironment
from envs.policy_world import policy_folder, world_taxonomy
from envs.samples import Group, Prompt, RewardQuery, Sample
from learner import checkpoint
from learner.experience import JudgedGroup, mean_reward, measures, saturated, trajectories
from learner.meter import Meter
from learner.ranks import Learner
from learner.runlog import RunLog, finished
from learner.sft import training_corpus
from learner.weight_source import LearnerWeights
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
    if finished(out, config):
        return
    corpus = training_corpus(config, out)
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(corpus, "train", taxonomy)
    prompts = [Prompt(sample_id, index) for index, sample_id in enumerate(samples.sample_ids())]
    if job == "offline":
        truth = dict(zip(samples.sample_ids(), samples.degradations(), strict=True))
        environment = OfflineEnvironment(prompts, truth, taxonomy, config.reward.penalty)
    else:
        environment = OnlineEnvironment(prompts, taxonomy, config.reward.penalty)
    policy = policy_folder(config.policy, config.world)
    prepare(config, job)
    asyncio.run(Loop(config, job, policy, environment, samples).run())


class Loop:
    """The actors of one job, and the steps they take together."""

    def __init__(self, config: Config, job: str, policy: Path, environment: OnlineEnvironment, samples: CorpusSplit):
        self.config, self.environment, self.samples = config, environment, samples
        self.out, self.online = run_folder(config, job), job == "online"
        self.policy, self.version = policy, 0
        self.rollouts, self.rewards = RolloutPool(config, self.policy), RewardPool(config)
        self.learner: Learner | None = None
        self.desk = control.open_desk(config, job)
        self.sampling = asyncio.Lock()  # sampling and syncing take turns: one batch, one set of weights
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
                self.log.summary({**last, "steps": config.steps, "policy": policy, "warm_start": self.policy})
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
                meter = Meter(config, self.rollouts, self.rewards)
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
                if wish := control.wished_rewards(self.desk):
                    await self.rewards.resize(wish)
                rewards.append(mean_reward(judged))
                done = step + 1 == config.steps or (self.online and saturated(rewards, SATURATION_WINDOW))
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
        sample = replace(sample, clean=None, degradation=None) if self.online else sample
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


def _check(config: Config, job: str) -> None:
    if config.steps < 1:
        raise UserError("steps: expected at least 1 optimiser step; set steps=200 or so")
    if config.rollout.decoding != "argmax":
        raise UserError(f"{job} samples its answers: expected rollout.decoding=argmax, got {config.rollout.decoding}")
    if config.policy == "random":
        raise UserError(
            f"{job} needs a warm start: expected policy=FOLDER or policy=shipped, got policy=random"
        )
