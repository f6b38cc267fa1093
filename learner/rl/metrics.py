"""What the stages of an RL job did during one step, and why they did nothing in the rest of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from configs.schema import Config
from reward_actors.pool.pool import RewardPool
from reward_actors.pool.shared.client import SharedPool
from rollout.pool import RolloutPool


@dataclass(frozen=True)
class Idle:
    """Counts the seconds in which the actors of a role did nothing, summed over them.

    starved: no work had come. blocked: those after them had not caught up. restarting: they were not there.
    """

    starved: float
    blocked: float
    restarting: float = 0.0


def rollout_idle(wall: float, engines: int, busy: float, sampling: float, restarting: float) -> Idle:
    """Says why engines were idle, all arguments being of one step.

    They starve while a step's last groups are sampled and no prompt is left for the others; before the next step they
    are blocked: they wait for the weights, which wait for the learner.

    sampling: seconds in which a step's prompts were being sampled.
    """
    starved = max(0.0, sampling * engines - busy - restarting)
    return Idle(starved, max(0.0, wall * engines - busy - restarting - starved), restarting)


def reward_idle(wall: float, actors: int, busy: float, restarting: float) -> Idle:
    """Says why reward actors were idle: nothing comes after them, so they waited for queries."""
    return Idle(max(0.0, wall * actors - busy - restarting), 0.0, restarting)


def learner_idle(wall: float, busy: float, syncing: float) -> Idle:
    """Says why the learner was idle: it waited for judged groups, or for the engines to take the weights."""
    blocked = min(syncing, max(0.0, wall - busy))
    return Idle(max(0.0, wall - busy - blocked), blocked)


class StageUtilization:
    """Measures what the stages did between its making and `read`: work done, seconds busy and idle."""

    def __init__(self, config: Config, rollouts: RolloutPool, rewards: RewardPool | SharedPool):
        self._engines = config.rollout.actors
        self._rollouts = rollouts
        self._rewards = rewards
        self._began = time.time()
        self._rollout_before = rollouts.stats()
        self._reward_before = rewards.stats()

    def read(self, learner_busy: float, syncing: float) -> dict:
        """Returns the metrics of the step.

        Args:
            learner_busy: seconds of the learner's step.
            syncing: seconds it then waited for the weights to be taken.
        """
        wall = time.time() - self._began
        rollout, was = self._rollouts.stats(), self._rollout_before
        reward, before = self._rewards.stats(), self._reward_before
        actors = max(1, reward.actors)
        sampled = rollout.busy_seconds - was.busy_seconds
        restored = sum(reward.busy.values()) - sum(before.busy.values())
        queries = reward.asked - before.asked
        scored = reward.scored - before.scored
        denoiser = reward.denoiser_seconds - before.denoiser_seconds
        idle = {
            "rollout": rollout_idle(
                wall,
                self._engines,
                sampled,
                rollout.sampling_seconds - was.sampling_seconds,
                rollout.restart_seconds - was.restart_seconds,
            ),
            "reward": reward_idle(wall, actors, restored, reward.restarting - before.restarting),
            "learner": learner_idle(wall, learner_busy, syncing),
        }
        return {
            "step_seconds": wall,
            "tokens_per_second": (rollout.tokens - was.tokens) / wall,
            "restarts": {"rollout": rollout.restarts - was.restarts, "reward": reward.restarts - before.restarts},
            "busy": {"rollout": sampled, "reward": restored, "learner": learner_busy},
            "busy_share": {
                "rollout": sampled / (wall * self._engines),
                "reward": restored / (wall * actors),
                "learner": learner_busy / wall,
            },
            "idle": {role: vars(seconds) for role, seconds in idle.items()},
            "rewards": {
                "actors": reward.actors,
                "asked": queries,
                "restored": scored,
                "distinct": scored / queries if queries else 0.0,
                "memo_hits": reward.memo_hits - before.memo_hits,
                "shared": reward.shared - before.shared,
                "image_steps": reward.image_steps - before.image_steps,
                "mfu": (reward.peak_seconds - before.peak_seconds) / denoiser if denoiser else 0.0,
                "queued": reward.queued,
                "queue_age": reward.queue_age,
            },
        }
