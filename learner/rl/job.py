"""`duvlm run offline` and `duvlm run online`: GRPO on restored images, in one visible loop (Section 4.3).

    prompts -> rollout -> gate -> reward queue -> scores -> group advantages -> learner step -> weights -> rollout

While the learner takes step k, the groups of step k + 1 are sampled and their restorations are under way; sampling
for step k waits until the weights of step k - max_staleness are out. The two jobs differ in their environment, and
online brings the terms of its reward to one scale and stops when it saturates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from configs import UserError, run_folder
from configs.cluster import scaling as control
from configs.cluster.connect import prepare
from configs.run_folders import continued
from configs.schema import Config
from envs.taxonomy import world_taxonomy
from envs.types import Sample
from envs.world import policy_folder
from learner.checks import check_rl, notes, with_scores_at_hand
from learner.distributed import checkpoint
from learner.distributed.group import LearnerGroup
from learner.distributed.weight_source import LearnerWeights
from learner.fitted.answers import fit_groups, fitted_share
from learner.fitted.memory import RewardMemory
from learner.logging.runlog import RunLog, finished
from learner.restart import CURABLE, run_with_restarts
from learner.rl.advantages import JudgedGroup, mean_reward, measures, saturated, trajectories
from learner.rl.collector import GroupCollector
from learner.rl.environment import Environment, open_environment
from learner.rl.metrics import StageUtilization
from learner.rl.online_reward import RunningScale, rescaled
from learner.rl.probe import Probe
from learner.rl.staleness import Pace, steps_ahead
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.shared.client import SharedPool, open_pool
from reward_actors.scoring.scorer import terms
from rollout.pool import RolloutPool

SATURATION_WINDOW = 20
SHOWN = ("reward", "gate_rate", "scored/psnr", "policy_kl", "staleness")


def run_offline(config: Config) -> None:
    """Learns from a corpus (structured RL): the gate knows the type, the reward the clean image."""
    _run(config, "offline")


def run_online(config: Config) -> None:
    """Learns without any truth (self-supervised RL); stops when the running average of the reward saturates."""
    _run(config, "online")


def _run(config: Config, job: str) -> None:
    config, score_notes = with_scores_at_hand(config)
    check_rl(config, job)
    out = run_folder(config, job)
    if finished(out, config):
        return
    policy = policy_folder(config.policy, config.world)
    probe = Probe(config) if config.probe else None
    environment = open_environment(config, job, out)
    with continued(config, job):
        prepare(config, job)
        for note in (*score_notes, *notes(config)):
            print(note, flush=True)
        if not config.resume:
            checkpoint.discard(out / "checkpoints", config.policy)

        def run(config: Config) -> None:
            mailbox = control.open_mailbox(config, job)
            asyncio.run(Loop(config, job, policy, environment, probe, mailbox=mailbox).run())

        run_with_restarts(config, run)


@dataclass(frozen=True)
class Stages:
    """Makes the parts of a loop that reach beyond it: others stand in for them where the loop itself is measured.

    put: puts a sample where its object reference leads to.
    """

    rollouts: Callable[..., RolloutPool] = RolloutPool
    rewards: Callable[..., RewardPool | SharedPool] = open_pool
    learner: Callable[..., LearnerGroup] = LearnerGroup
    log: Callable[..., RunLog] = RunLog
    put: Callable[[Sample], Any] = ray.put


STAGES = Stages()


class Loop:
    """Holds the actors of one job, and takes its steps with them."""

    def __init__(
        self,
        config: Config,
        job: str,
        policy: Path,
        environment: Environment,
        probe: Probe | None,
        stages: Stages = STAGES,
        mailbox: Any = None,
    ):
        """mailbox: where `duvlm scale` puts its requests; None: nobody asks."""
        self.config = config
        self.environment = environment
        self.probe = probe
        self.job = job
        self.online = job == "online"
        self.out = run_folder(config, job)
        self.policy = policy
        self.pace = Pace(config.grpo.max_staleness)
        self.recent: list[float] = []  # mean rewards of the last steps
        self.scale = RunningScale(terms(config.reward.scorer)) if self.online else None
        remembers = config.grpo.estimator == "fitted" and not self.online  # online a reward is rescaled at every step
        self.memory = RewardMemory(world_taxonomy(config.world), config.reward) if remembers else None
        self.stages = stages
        self.rollouts = stages.rollouts(config, self.policy)
        self.rewards = stages.rewards(config, environment.rules)
        self.learner: LearnerGroup | None = None
        self.weights: LearnerWeights | None = None
        self.mailbox = mailbox
        self.scaling: asyncio.Task | None = None

    async def run(self) -> None:
        """Starts all stages, takes the steps that are left, and ends the stages, whatever happens."""
        config = self.config
        reference = self.policy if config.grpo.kl > 0 else None
        updates = config.steps * config.grpo.epochs
        learner = asyncio.create_task(asyncio.to_thread(self.stages.learner, config, self.policy, updates, reference))
        starting = [asyncio.shield(learner), self.rollouts.start()]
        if config.reward.strategy != "value":  # nothing is restored there
            starting.append(self.rewards.start())
        try:
            self.learner, *_ = await asyncio.gather(*starting)
            self.weights = LearnerWeights(self.learner)
            if self.mailbox:
                self.scaling = asyncio.create_task(control.apply_requests(self.mailbox, self.rewards))
            first = await self._resume()
            log = self.stages.log(self.out, self.job, config, config.steps, first, SHOWN)
            with log as self.log, checkpoint.Saver(self.out / "checkpoints") as self.saver:
                self.collector = GroupCollector(
                    config, self.environment, self.rollouts, self.rewards, self.pace, self.log, self.stages.put
                )
                last = await self._steps(first)
                await asyncio.to_thread(self.saver.wait)
                policy = self.out / "policy"
                await asyncio.to_thread(self.learner.save_policy, policy)
                self.log.summary({**last, "steps": config.steps, "policy": policy, "warm_start": self.policy})
        finally:
            if self.scaling:
                self.scaling.cancel()
            if self.mailbox:
                ray.kill(self.mailbox)
            await asyncio.gather(self.rollouts.close(), self.rewards.close())
            with suppress(*CURABLE, UserError):  # it may still be starting, when another stage has failed
                (await learner).close()

    async def _steps(self, first: int) -> dict:
        """Takes the steps from `first` on; returns the metrics of the last one."""
        config, collecting = self.config, {}
        metrics: dict = {"step": first}
        try:
            for step in range(first, config.steps):
                if self._saturated():
                    break
                await self._profile(step + 1)
                utilization = StageUtilization(config, self.rollouts, self.rewards)
                for ahead in steps_ahead(step, config.grpo.max_staleness, config.steps):
                    if ahead not in collecting:
                        collecting[ahead] = asyncio.create_task(self.collector.collect(ahead))
                judged = await collecting.pop(step)
                if self.scale:
                    judged, self.scale = rescaled(judged, self.scale)
                learned = await self._learn(judged, step)
                sync = await self._sync(step + 1)
                syncing = sync["sync"]["waited"] + sync["sync"]["seconds"]
                stages = utilization.read(learned["seconds"], syncing)
                await self._profile(step + 1, str(self.out / "profile" / f"step-{step + 1}"))
                metrics = {**measures(judged, step), **learned, **sync, **stages}
                self.recent = [*self.recent, mean_reward(judged)][-2 * SATURATION_WINDOW :]
                keep = step + 1 == config.steps or self._saturated()
                keep = keep or (step + 1) % config.learner.checkpoint_every == 0
                if self.probe and keep:
                    metrics["probe"] = await self._measure_probe()
                self.log.step(step + 1, metrics)
                if keep:
                    await self._save(step + 1)
        finally:
            for groups in collecting.values():
                groups.cancel()
        return {"step": self.pace.version, **metrics, "saturated": self._saturated()}

    async def _learn(self, judged: Sequence[JudgedGroup], step: int) -> dict:
        """Takes the learner's step on the judged groups; returns its metrics.

        Raises RuntimeError, with a reason, where not one completion of the step could be judged.
        """
        fitted = fit_groups(judged, self.config, self.memory)
        taken = trajectories(judged, self.config.grpo.loss, [group.curves for group in fitted])
        if not taken:
            reason = next(verdict.reason for item in judged for verdict in item.verdicts)
            raise RuntimeError(f"not one restoration of this step could be had: {reason}")
        with self.log.timed("learner", "ranks", f"step {step}"):
            learned = await asyncio.to_thread(self.learner.grpo_step, taken)
        return {**learned, "fitted": fitted_share(fitted)} if fitted else learned

    async def _profile(self, step: int, folder: str = "") -> None:
        """Begins the traces of a step that is to be traced; with a folder, ends them and writes them there."""
        if step not in self.config.profile.steps:
            return
        parts = {
            "learner": lambda: asyncio.to_thread(self.learner.profile, folder),
            "reward": lambda: self.rewards.profile(folder),
            "rollout": lambda: self.rollouts.profile(folder),
        }
        await asyncio.gather(*(parts[role]() for role in self.config.profile.roles))

    def _saturated(self) -> bool:
        """Whether an online job has learned what it can (see `saturated`)."""
        return self.online and saturated(self.recent, SATURATION_WINDOW)

    async def _measure_probe(self) -> dict[str, float]:
        async with self.pace.sampling:
            return await self.probe.measure(self.rollouts)

    async def _sync(self, version: int) -> dict:
        """Sends the learner's weights to the engines, which by then have no group under way; returns its metrics."""
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
        """Writes a checkpoint; it is hashed and sealed while the next steps are taken."""
        draft = await asyncio.to_thread(self.saver.begin, step)
        await asyncio.to_thread(self.learner.save, draft)
        cursor = {"recent": self.recent, "scale": self.scale.as_dict() if self.scale else {}}
        self.saver.seal(draft, cursor | ({"memory": self.memory.as_dict()} if self.memory else {}))

    async def _resume(self) -> int:
        """Loads the newest checkpoint, if there is one; returns the steps already taken.

        Prompts and seeds follow from their number, the rest is in the checkpoint. Then the engines get the learner's
        weights: what does not fit or arrives damaged is reported before the first step.
        """
        newest = await asyncio.to_thread(checkpoint.to_continue, self.out / "checkpoints", self.config.resume)
        if newest is not None:
            await asyncio.to_thread(self.learner.load, newest)
            await self.pace.reach(checkpoint.step_of(newest))
            cursor = checkpoint.cursor_of(newest)
            self.recent = cursor["recent"]
            if self.scale:
                self.scale = self.scale.restored(cursor["scale"])
            if self.memory:
                self.memory.restore(cursor.get("memory", {}))
        await self.rollouts.update(self.weights)
        return self.pace.version
