"""The same RL task in TRL's GRPOTrainer, which is installed beside the project for this comparison only:

    pip install --target FOLDER --no-deps trl==1.16.0

One process with a thread a core, transformers' own generation (TRL's vLLM mode wants GPUs), and a reward function that
gates, then restores one completion after the other, as reward functions are written.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.throughput.reward.cost import walk
from configs import UserError
from configs.schema import Config
from envs.environment import OfflineEnvironment
from envs.observation import QUESTION, views
from envs.types import Completion, Prompt, RewardQuery, Sample
from envs.world import policy_folder
from learner.distributed.deepspeed import GRAD_CLIP, WEIGHT_DECAY
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import RESTORERS
from reward_actors.scoring.scorer import mse

VERSION = "1.16.0"


@dataclass(frozen=True)
class Trained:
    """seconds: of the steps, without loading. reward_seconds: of them in the reward function. rewards: of every
    completion, in order."""

    seconds: float
    reward_seconds: float
    rewards: tuple[float, ...]
    gated: int


def check(folder: Path) -> None:
    """Raises UserError where TRL is not in `folder`."""
    if not (folder / "trl").is_dir():
        install = f"pip install --target {folder} --no-deps trl=={VERSION}"
        raise UserError(f"end_to_end: expected TRL in {folder} (or --trl FOLDER); `{install}` puts it there")


def train(
    config: Config, folder: Path, environment: OfflineEnvironment, prompts: Sequence[Prompt], samples: Sequence[Sample]
) -> Trained:
    """Takes the prompts, `grpo.prompts` a step. folder: where TRL is installed."""
    check(folder)
    sys.path.append(str(folder))
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    policy = policy_folder(config.policy, config.world)
    processor = AutoProcessor.from_pretrained(policy)
    model = AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32)
    reward = _SequentialReward(config, environment, prompts, samples, processor)
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
    rows = [
        {
            "prompt": [{"role": "user", "content": QUESTION}],
            "images": [Image.fromarray(v) for v in views(samples[p.sample].degraded, config.world.views)],
            "sample_id": p.sample_id,
        }
        for p in prompts
    ]
    trainer = GRPOTrainer(model, reward, arguments, Dataset.from_list(rows), processing_class=processor)
    began = time.perf_counter()
    trainer.train()
    return Trained(time.perf_counter() - began, reward.seconds, tuple(reward.rewards), reward.gated)


class _SequentialReward:
    """TRL's reward function: the gate and the prior of the job, one completion after the other."""

    __name__ = "restoration"

    def __init__(self, config: Config, environment: OfflineEnvironment, prompts, samples, processor):
        self._environment, self._tokenizer = environment, processor.tokenizer
        self._samples = {prompt.sample_id: samples[prompt.sample] for prompt in prompts}
        self._prior = load_prior(config.reward.prior, config.world.size)
        self.seconds, self.gated, self.rewards = 0.0, 0, []

    def __call__(self, sample_id: Sequence[str], completion_ids: Sequence[Sequence[int]], **_) -> list[float]:
        began = time.perf_counter()
        rewards = [self._reward(name, ids) for name, ids in zip(sample_id, completion_ids, strict=True)]
        self.seconds += time.perf_counter() - began
        self.rewards += rewards
        return rewards

    def _reward(self, sample_id: str, ids: Sequence[int]) -> float:
        end = self._tokenizer.eos_token_id
        text = self._tokenizer.decode([i for i in ids if i != end], spaces_between_special_tokens=False)
        sample = self._samples[sample_id]
        verdict = self._environment.judge(Prompt(sample_id, sample), Completion(text, tuple(ids), ()))
        if not isinstance(verdict, RewardQuery):
            self.gated += 1
            return verdict.reward
        restored = walk(self._prior, RESTORERS["ddnm"], sample.degraded, verdict.degradation, sample_id)
        return -mse(np.asarray(restored), sample.clean)
