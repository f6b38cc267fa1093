"""`duvlm run offline` and `duvlm run online`: GRPO on restored images, in one visible loop (Section 4.3).

    prompts -> rollout -> gate -> reward queue -> scores -> group advantages -> learner step -> weights -> rollout

While the learner takes step k, the groups of step k + 1 are sampled and their restorations are under way; sampling
for step k waits until the weights of step k - max_staleness are out. The two jobs differ in their world, and online
brings the terms of its reward to one scale and stops when it saturates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ray

from configs import UserError, run_folder
from configs.cluster import scaling as control
from configs.cluster.connect import prepare
from configs.run_folders import locked
from configs.schema import Config
from envs.world import policy_folder
from learner.checks import check_rl
from learner.distributed import checkpoint
from learner.distributed.group import Learner
from learner.distributed.weight_source import LearnerWeights
from learner.logging.runlog import RunLog, finished
from learner.losses import Trajectory
from learner.restart import CURABLE, persist
from learner.rl.advantages import JudgedGroup, mean_reward, measures, saturated, trajectories
from learner.rl.collector import Batches
from learner.rl.metrics import Meter
from learner.rl.probe import Probe
from learner.rl.reward_scale import RunningScale, rescaled
from learner.rl.staleness import Pace, steps_ahead
from learner.rl.worlds import JobWorld, open_world
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.shared.client import SharedPool, open_pool
from reward_actors.scoring.scorer import terms
from rollout.pool import RolloutPool

SATURATION_WINDOW = 20
SHOWN = ("reward", "gate_rate", "scored/psnr", "policy_kl", "staleness")


def run_offline(config: Config) -> None:
    """Structured RL on a corpus: the gate knows the type, the reward the clean image."""
    _run(config, "offline")


def run_online(config: Config) -> None:
    """Self-supervised RL: the truth never enters the job; stops when the running average of the reward saturates."""
    _run(config, "online")


def _run(config: Config, job: str) -> None:
    check_rl(config, job)
    out = run_folder(config, job)
    if finished(out, config):
        return
    policy = policy_folder(config.policy, config.world)
    probe = Probe(config) if config.probe else None
    world = open_world(config, job, out)
    with locked(out):
        prepare(config, job)
        if not config.resume:
            checkpoint.discard(out / "checkpoints", config.policy)
        persist(config, lambda config: asyncio.run(Loop(config, job, policy, world, probe).run()))


@dataclass(frozen=True)
class Stages:
    """What makes the stages of a loop: others stand in for them where the loop itself is measured."""

    rollouts: Callable[..., RolloutPool] = RolloutPool
    rewards: Callable[..., RewardPool | SharedPool] = open_pool
    learner: Callable[..., Learner] = Learner


STAGES = Stages()


class Loop:
    """The actors of one job, and the steps they take together."""

    def __init__(
        self, config: Config, job: str, policy: Path, world: JobWorld, probe: Probe | None, stages: Stages = STAGES
    ):
        self.config, self.world, self.probe = config, world, probe
        self.job, self.out, self.online = job, run_folder(config, job), job == "online"
        self.policy, self.pace = policy, Pace(config.grpo.max_staleness)
        self.recent: list[float] = []  # mean rewards of the last steps
        self.scale = RunningScale(terms(config.reward.scorer)) if self.online else None
        self.stages, self.rollouts, self.rewards = stages, stages.rollouts(config, self.policy), stages.rewards(config)
        self.learner: Learner | None = None
        self.weights: LearnerWeights | None = None
        self.mailbox, self.scaling = control.open_mailbox(config, job), None

    async def run(self) -> None:
        config = self.config
        reference = self.policy if config.grpo.kl > 0 else None
        updates = config.steps * config.grpo.epochs
        learner = asyncio.create_task(asyncio.to_thread(self.stages.learner, config, self.policy, updates, reference))
        starting = [asyncio.shield(learner), self.rollouts.start()]
        if config.reward.strategy != "value":  # nothing is restored there
            starting.append(self.rewards.start())
        try:
            self.learner, *_ = await asyncio.gather(*starting)
            self.weights = LearnerWeights(self.learner, config)
            self.scaling = asyncio.create_task(control.apply_requests(self.mailbox, self.rewards))
            first = await self._resume()
            with RunLog(self.out, self.job, config, config.steps, first, SHOWN) as self.log:
                self.batches = Batches(config, self.world, self.rollouts, self.rewards, self.pace, self.log)
                last = await self._steps(first)
                policy = self.out / "policy"
                await asyncio.to_thread(self.learner.save_policy, policy)
                self.log.summary({**last, "steps": config.steps, "policy": policy, "warm_start": self.policy})
        finally:
            if self.scaling:
                self.scaling.cancel()
            ray.kill(self.mailbox)
            await asyncio.gather(self.rollouts.close(), self.rewards.close())
            with suppress(*CURABLE, UserError):  # it may still be starting, when another stage has failed
                (await learner).close()

    async def _steps(self, first: int) -> dict:
        """The loop. Returns the metrics of the last step."""
        config, collecting = self.config, {}
        metrics: dict = {"step": first}
        try:
            for step in range(first, config.steps):
                if self._saturated():
                    break
                meter = Meter(config, self.rollouts, self.rewards)
                for ahead in steps_ahead(step, config.grpo.max_staleness, config.steps):
                    if ahead not in collecting:
                        collecting[ahead] = asyncio.create_task(self.batches.collect(ahead))
                judged = await collecting.pop(step)
                if self.scale:
                    judged, self.scale = rescaled(judged, self.scale)
                with self.log.timed("learner", "ranks", f"step {step}"):
                    taken = _some(trajectories(judged, config.grpo.loss), judged)
                    learned = await asyncio.to_thread(self.learner.grpo_step, taken)
                sync = await self._sync(step + 1)
                syncing = sync["sync"]["waited"] + sync["sync"]["seconds"]
                metrics = {**measures(judged, step), **learned, **sync, **meter.read(learned["seconds"], syncing)}
                self.recent = [*self.recent, mean_reward(judged)][-2 * SATURATION_WINDOW :]
                keep = step + 1 == config.steps or self._saturated()
                keep = keep or (step + 1) % config.learner.checkpoint_every == 0
                if self.probe and keep:
                    metrics["probe"] = await self._measure_probe()
                self.log.step(step + 1, metrics)
                if keep:
                    await self._save(step + 1)
        finally:
            for batch in collecting.values():
                batch.cancel()
        return {"step": self.pace.version, **metrics, "saturated": self._saturated()}

    def _saturated(self) -> bool:
        """Whether an online job has learned what it can (see `saturated`)."""
        return self.online and saturated(self.recent, SATURATION_WINDOW)

    async def _measure_probe(self) -> dict[str, float]:
        async with self.pace.sampling:
            return await self.probe.measure(self.rollouts)

    async def _sync(self, version: int) -> dict:
        """Sends the learner's weights to the engines, which by then have no group under way."""
        began, before = time.time(), self.rollouts.stats().update_bytes
        async with self.pace.sampling:
            start = time.time()
            await self.rollouts.update(self.weights)
            seconds = time.time() - start
        self.log.span("learner", "sync", f"version {version}", start, seconds)
        await self.pace.reach(version)
        sent = self.rollouts.stats().update_bytes - before
        return {"sync": {"seconds": seconds, "waited": start - began, "bytes": sent, "version": version}}

    async def _save(self, step: int) -> None:
        draft = checkpoint.begin(self.out / "checkpoints", step)
        await asyncio.to_thread(self.learner.save, draft)
        cursor = {"recent": self.recent, "scale": self.scale.as_dict() if self.scale else {}}
        await asyncio.to_thread(checkpoint.finish, draft, cursor=cursor)  # it reads and flushes all of it

    async def _resume(self) -> int:
        """Steps already taken; prompts and seeds follow from their number, the rest is in the checkpoint.

        Then the engines get the learner's weights: what does not fit or arrives damaged is told before the first step.
        """
        found = await asyncio.to_thread(checkpoint.to_continue, self.out / "checkpoints", self.config.resume)
        if found is not None:
            await asyncio.to_thread(self.learner.load, found)
            await self.pace.reach(checkpoint.step_of(found))
            cursor = checkpoint.cursor_of(found)
            self.recent = cursor["recent"]
            if self.scale:
                self.scale = self.scale.restored(cursor["scale"])
        await self.rollouts.update(self.weights)
        return self.pace.version


def _some(taken: list[Trajectory], judged: Sequence[JudgedGroup]) -> list[Trajectory]:
    """Raises RuntimeError, with a reason, where not one completion of a step could be judged."""
    if not taken:
        reason = next(verdict.reason for item in judged for verdict in item.verdicts)
        raise RuntimeError(f"not one restoration of this step could be had: {reason}")
    return taken
