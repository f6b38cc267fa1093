"""SFT and GRPO in one plain process: no DeepSpeed, no Ray, no batching. The learner must agree with it.

Every sequence goes through the Hugging Face processor and model by itself; losses are written out in full.
"""

from __future__ import annotations

import math

import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from envs.observation import chat, views

CAP = 2.0  # of an importance weight


class ReferenceTrainer:
    """The same steps as `learner.distributed.group.LearnerGroup`, with `config` read the same way."""

    def __init__(self, folder, config, total_steps: int, reference=None):
        open_model = Qwen3VLForConditionalGeneration.from_pretrained
        self.model = open_model(folder, dtype=torch.float32)
        self.reference = open_model(reference, dtype=torch.float32) if reference else None
        self.processor = AutoProcessor.from_pretrained(folder)
        self.config, self.total, self.steps = config, total_steps, 0
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.learner.lr, weight_decay=0.01)

    def logits(self, model, example) -> torch.Tensor:
        """(T, V): of each completion token given all before it."""
        pictures = views(example.image, self.config.world.views)
        prompt = self.processor.apply_chat_template(chat(len(pictures)), add_generation_prompt=True)
        inputs = self.processor(text=[prompt], images=pictures, return_tensors="pt")
        completion = torch.tensor([example.completion])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], completion], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        kinds = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(completion, dtype=kinds.dtype)], 1)
        return model(**inputs).logits[0, -completion.shape[1] - 1 : -1]

    def logprobs(self, model, example) -> torch.Tensor:
        """(T,)"""
        return self.logits(model, example).log_softmax(-1)[
            range(len(example.completion)), list(example.completion)
        ]

    def sft_step(self, examples) -> float:
        tokens = sum(len(example.completion) for example in examples)
        losses = [-self.logprobs(self.model, example).sum() / tokens for example in examples]
        return self._update(sum(losses))

    def grpo_step(self, trajectories) -> float:
        settings, count = self.config.grpo, len(trajectories)
        with torch.no_grad():
            olds = [self.logprobs(self.model, t.example) for t in trajectories]
        for _ in range(settings.epochs):
            total = 0.0
            for trajectory, old in zip(trajectories, olds, strict=True):
                logprobs = self.logprobs(self.model, trajectory.example)
                ratio = (logprobs - old).exp()
                if settings.loss == "gspo":
                    ratio = (logprobs - old).mean().exp().expand(len(old))
                bounded = torch.clamp(ratio, 1 - settings.clip[0], 1 + settings.clip[1])
                gain = torch.min(ratio * trajectory.advantage, bounded * trajectory.advantage)
                loss = -self.weight(old, torch.tensor(trajectory.logprobs)) * gain
                if self.reference is not None:
                    with torch.no_grad():
                        away = self.logprobs(self.reference, trajectory.example)
                    loss = loss + settings.kl * self.divergence(logprobs, away)
                length = self.config.rollout.max_tokens if settings.loss == "dr_grpo" else len(loss)
                total = total + loss.sum() / length / count
            value = self._update(total)
        return value

    def weight(self, old, sampled) -> torch.Tensor:
        """(T,) importance weight of each token."""
        settings, weight = self.config.grpo, (old - sampled).exp()
        if settings.importance == "off":
            return torch.ones_like(weight)
        above = weight > CAP
        return weight.masked_fill(above, CAP if settings.importance == "truncate" else 0.0)

    def divergence(self, logprobs, away) -> torch.Tensor:
        """(T,) estimated KL to the reference."""
        gap = away - logprobs
        return {"k1": -gap, "k2": gap**2 / 2, "k3": gap.exp() - gap - 1}[self.config.grpo.kl_estimator]

    def _update(self, loss: torch.Tensor) -> float:
        learner = self.config.learner
        done = max(0, self.steps - learner.warmup) / (self.total - learner.warmup)
        rate = learner.lr * min(1.0, (self.steps + 1) / learner.warmup)
        rate *= 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        return loss.item()
