"""The same RL task in TRL's GRPOTrainer, for comparison only (`pip install trl==1.16.0`; `make setup` does).

One process with a thread a core, transformers' own generation (TRL's vLLM mode wants GPUs), and a reward function:
`SequentialReward`, which gates, then restores one completion after the other, as reward functions are written, or
`duvlm.RewardFunction`.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.throughput.reward.cost import walk
from configs import UserError
from configs.schema import Config
from envs.observation import QUESTION, views
from envs.types import Completion, Prompt, RewardQuery
from envs.world import policy_folder
from learner.distributed.deepspeed import GRAD_CLIP, WEIGHT_DECAY
from learner.rl.environment import Environment
from learner.rl.reward_function import text_of
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import RESTORERS
from reward_actors.scoring.scorer import mse


@dataclass(frozen=True)
class Trained:
    """seconds: of the steps, without loading. reward_seconds: of them in the reward function. rewards: of every
    completion, in order."""

    seconds: float
    reward_seconds: float
    rewards: tuple[float, ...]


def train(config: Config, environment: Environment, prompts: Sequence[Prompt], reward: Callable) -> Trained:
    """Takes the prompts, `grpo.prompts` a step. reward: TRL's reward function."""
    require()
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    policy = policy_folder(config.policy, config.world)
    processor = AutoProcessor.from_pretrained(policy)
    model = AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32)
    timed = _Timed(reward)
    grpo, rollout = config.grpo, config.rollout
    arguments = GRPOConfig(
        output_dir=str(Path(config.out, "trl")),
        per_device_train_batch_size=grpo.prompts * rollout.group_size,
        num_generations=rollout.group_size,
        max_completion_length=rollout.max_tokens,
        temperature=rollout.temperature,
        max_steps=len(prompts) // grpo.prompts,
        learning_rate=config.learner.lr,
        lr_scheduler_type="constant",
        beta=grpo.kl,
        epsilon=grpo.clip[0],
        epsilon_high=grpo.clip[1],
        loss_type="grpo",
        max_grad_norm=GRAD_CLIP,
        weight_decay=WEIGHT_DECAY,
        shuffle_dataset=False,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        seed=config.seed,
        disable_tqdm=True,
    )
    samples = {p.sample_id: environment.samples[p.sample] for p in prompts}
    rows = [
        {
            "prompt": [{"role": "user", "content": QUESTION}],
            "images": [Image.fromarray(view) for view in views(sample.degraded, config.world.views)],
            "sample_id": name,
        }
        for name, sample in samples.items()
    ]
    trainer = GRPOTrainer(model, timed, arguments, Dataset.from_list(rows), processing_class=processor)
    began = time.perf_counter()
    trainer.train()
    return Trained(time.perf_counter() - began, timed.seconds, tuple(timed.rewards))


def require() -> None:
    """Raises UserError where TRL is not installed."""
    if importlib.util.find_spec("trl") is None:
        raise UserError("end_to_end: expected TRL beside the project: `pip install trl==1.16.0`")


class _Timed:
    """Keeps what a reward function returned, and how long it took."""

    __name__ = "restoration"

    def __init__(self, reward: Callable):
        self._reward, self.seconds, self.rewards = reward, 0.0, []

    def __call__(self, **columns) -> list[float]:
        began = time.perf_counter()
        rewards = self._reward(**columns)
        self.seconds += time.perf_counter() - began
        self.rewards += rewards
        return rewards


class SequentialReward:
    """TRL's reward function: the gate and the prior of the job, one completion after the other."""

    def __init__(self, config: Config, environment: Environment, prompts: Sequence[Prompt]):
        self._rules = environment.rules
        self._samples = {prompt.sample_id: environment.samples[prompt.sample] for prompt in prompts}
        self._prior = load_prior(config.reward.prior, config.world.size)

    def __call__(self, completions: Sequence, sample_id: Sequence[str], **_) -> list[float]:
        return [self._reward(name, text_of(one)) for name, one in zip(sample_id, completions, strict=True)]

    def _reward(self, sample_id: str, text: str) -> float:
        sample = self._samples[sample_id]
        verdict = self._rules.judge(Prompt(sample_id, sample), Completion(text, (), ()))
        if not isinstance(verdict, RewardQuery):
            return verdict.reward
        restored = walk(self._prior, RESTORERS["ddnm"], sample.degraded, verdict.degradation, sample_id)
        return -mse(np.asarray(restored), sample.clean)
