"""What the stages of an RL job did during one step."""

from __future__ import annotations

import time

from configs.schema import Config
from reward_actors.pool import RewardPool
from rollout.pool import RolloutPool


class Meter:
    """What the stages did between its making and `read`: work done, seconds busy and idle."""

    def __init__(self, config: Config, rollouts: RolloutPool, rewards: RewardPool):
        self._config, self._rollouts, self._rewards, self._began = config, rollouts, rewards, time.time()
        self._rollout_busy, self._reward = rollouts.stats().busy_seconds, rewards.stats()

    def read(self, learner_busy: float) -> dict:
        """learner_busy: seconds of the learner's step."""
        wall, reward = time.time() - self._began, self._rewards.stats()
        busy = {
            "rollout": self._rollouts.stats().busy_seconds - self._rollout_busy,
            "reward": sum(reward.busy.values()) - sum(self._reward.busy.values()),
            "learner": learner_busy,
        }
        counts = {"rollout": self._config.rollout.actors, "reward": max(1, reward.actors), "learner": 1}
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
