"""One DeepSpeed rank: forward, loss, step, state. No Ray here; every method is called on all ranks alike.

A global batch is the union of what the ranks are given; losses are means over all its completion tokens,
whatever the number of ranks and the size of a micro-batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from configs.schema import Config
from envs.world import world_taxonomy, write_world
from learner import losses as grpo
from learner.distributed import weights as policy_weights
from learner.distributed.deepspeed import base_optimizer, initialize, learning_rate, summed
from learner.policy.collator import Batch, Collator, Example, token_batches
from learner.policy.generate import greedy
from learner.policy.model import Policy, load_policy
from learner.policy.targets import AnswerLanguage, sft_loss
from rollout.weights.manifest import Manifest

WEIGHT_DECAY = 0.01


class Trainer:
    """Holds the policy, its optimiser and, where KL is wanted, a frozen reference.

    Every rank makes equally many forward passes, vision tower and all, whatever its share of a batch: collectives
    inside them must meet.
    """

    def __init__(self, folder: Path, config: Config, total_steps: int, reference: Path | None = None):
        """
        Args:
            folder: the policy to begin with.
            total_steps: length of the learning-rate schedule.
            reference: policy whose KL is penalised; None keeps no second copy. With LoRA it is `folder`, and none is
                kept either: it is what the policy is without its adapters.

        The default process group must exist already.
        """
        if config.learner.lora and reference not in (None, folder):
            raise ValueError(f"with LoRA the reference is the policy it begins with, {folder}; got {reference}")
        self.config, self.total_steps, self.steps = config, total_steps, 0
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        gpu = torch.cuda.is_available() and config.learner.gpus > 0
        self.device = torch.device("cuda" if gpu else "cpu")
        half = config.learner.dtype == "bfloat16"
        model, self.processor = load_policy(folder, torch.bfloat16 if half and gpu else torch.float32)
        shape = {"autocast": half and not gpu, "linear_patches": not gpu and config.learner.zero < 3}
        self.collate = Collator(self.processor, model.model, config.world.views)
        taxonomy = world_taxonomy(config.world)
        self.language = AnswerLanguage(
            self.processor.tokenizer, taxonomy, config.world.rationale, config.learner.smooth
        )
        self.reference, self._penalised = None, reference is not None
        if self._penalised and not config.learner.lora:
            self.reference = Policy(load_policy(reference)[0].to(self.device), **shape).requires_grad_(False)
        policy_weights.choose_trained(model, config.learner.lora, config.learner.trained)
        if "checkpointing" in config.learner.memory:
            model.train().gradient_checkpointing_enable({"use_reentrant": False})  # no layer here has dropout
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learner.lr, weight_decay=WEIGHT_DECAY)
        self.engine = initialize(Policy(model, **shape), optimizer, config.learner, self.ranks, gpu)
        self.model, self.weights = model, policy_weights.weights(model)

    def sft_step(self, examples: Sequence[Example]) -> dict[str, float]:
        """One optimiser step of cross-entropy on this rank's share of the global batch."""
        began = time.perf_counter()
        tokens = summed([sum(len(e.completion) for e in examples)], self.device)[0]
        loss, preparing = 0.0, 0.0
        chunks = self._chunks(examples)
        passes = self._most(len(chunks))
        for i in range(passes):
            chunk, counts = chunks[min(i, len(chunks) - 1)], i < len(chunks)
            start = time.perf_counter()
            batch, targets = (
                self.collate(chunk).to(self.device),
                self.language.targets([e.completion for e in chunk]),
            )
            preparing += time.perf_counter() - start
            self.engine.set_gradient_accumulation_boundary(i == passes - 1)
            part = sft_loss(self.engine(batch), targets) / tokens * counts
            self.engine.backward(part * self.ranks, scale_wrt_gas=False)  # DeepSpeed averages over ranks
            loss += part.item()
        step = self._update()
        loss, examples_seen = summed([loss, len(examples)], self.device)
        seconds = time.perf_counter() - began
        return {
            "loss": loss,
            **step,
            "seconds": seconds,
            "seconds_prepare": preparing,
            "samples_per_second": examples_seen / seconds,
        }

    def grpo_step(self, trajectories: Sequence[grpo.Trajectory]) -> dict[str, float]:
        """`config.grpo.epochs` optimiser steps on this rank's share of judged completions (at least one).

        The loss is averaged as `config.grpo.loss` says (see learner.losses) over the completions of all ranks. Metrics
        are means over all their tokens: KL to the reference, mismatch between learner and rollout log-probs, share
        of clipped tokens, entropy.
        """
        settings = self.config.grpo
        began = time.perf_counter()
        runs = token_batches([self.collate.length(t.example) for t in trajectories], self.config.learner.micro_tokens)
        batches = [self._rollout_batch(trajectories[run]) for run in runs]
        most = self._most(len(batches))
        while len(batches) < most:
            batch, *rest = batches[0]
            batches.append((replace(batch, mask=torch.zeros_like(batch.mask)), *rest))
        tokens, completions = summed(
            [sum(batch.mask.sum().item() for batch, *_ in batches), len(trajectories)], self.device
        )
        references = [self._reference_logprobs(batch) if self._penalised else None for batch, *_ in batches]
        old = [self._logprobs(self.engine, b) if settings.epochs > 1 else None for b, *_ in batches]
        metrics: dict[str, float] = {}
        for _ in range(settings.epochs):
            sums: dict[str, float] = {}
            for i, (batch, rollout, advantages) in enumerate(batches):
                self.engine.set_gradient_accumulation_boundary(i == len(batches) - 1)
                loss, parts = self._grpo_loss(batch, rollout, advantages, old[i], references[i])
                self.engine.backward(loss / completions * self.ranks, scale_wrt_gas=False)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + value
            step = self._update()
            totals = dict(zip(sums, summed(list(sums.values()), self.device), strict=True))
            loss = totals.pop("loss") / completions
            metrics = {"loss": loss, **{name: total / tokens for name, total in totals.items()}, **step}
        return metrics | {"tokens": tokens, "seconds": time.perf_counter() - began}

    def _grpo_loss(self, batch: Batch, rollout, advantages, old, reference) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss summed over completions, metrics summed over tokens."""
        logits = self.engine(batch)
        logprobs = grpo.token_logprobs(logits, batch.completion)
        old = logprobs.detach() if old is None else old
        losses, parts = grpo.token_losses(logprobs, old, rollout, reference, advantages, batch.mask, self.config.grpo)
        loss = grpo.summed_loss(losses, batch.mask, self.config.grpo.loss, self.config.rollout.max_tokens)
        with torch.no_grad():
            parts["entropy"] = grpo.entropy(logits)
            sums = {name: (value * batch.mask).sum().item() for name, value in parts.items()}
        return loss, {"loss": loss.item(), **sums}

    def _rollout_batch(self, chunk: Sequence[grpo.Trajectory]) -> tuple[Batch, torch.Tensor, torch.Tensor]:
        batch = self.collate([t.example for t in chunk]).to(self.device)
        rollout = torch.zeros(batch.mask.shape, device=self.device)
        for row, trajectory in enumerate(chunk):
            rollout[row, : len(trajectory.logprobs)] = torch.tensor(trajectory.logprobs)
        return batch, rollout, torch.tensor([t.advantage for t in chunk], device=self.device)

    @torch.no_grad()
    def _logprobs(self, policy: Callable, batch: Batch) -> torch.Tensor:
        return grpo.token_logprobs(policy(batch), batch.completion)

    def _reference_logprobs(self, batch: Batch) -> torch.Tensor:
        with nullcontext() if self.reference else policy_weights.adapters_off(self.model):
            return self._logprobs(self.reference or self.engine, batch)

    @torch.no_grad()
    def logprobs(self, examples: Sequence[Example]) -> list[list[float]]:
        """Log-probability of each completion token under the policy as it is now."""
        batch = self.collate(examples).to(self.device)
        found = self._logprobs(self.engine, batch)
        return [row[: len(e.completion)].tolist() for row, e in zip(found, examples, strict=True)]

    @torch.no_grad()
    def answers(self, images: Sequence, max_tokens: int) -> list[str]:
        """Greedy answers to uint8 (H, W, 3) images, without end-of-turn token; equally many on each rank."""
        texts: list[str] = []
        for chunk in self._chunks([Example(image, (0,) * max_tokens) for image in images]):
            shown = [example.image for example in chunk]
            texts += greedy(
                self.engine.module, self.collate, self.processor.tokenizer, shown, max_tokens, self.device
            )
        return texts

    def _chunks(self, examples: Sequence[Example]) -> list[Sequence[Example]]:
        """Runs of examples, each a forward pass of at most `learner.micro_tokens` tokens."""
        lengths = [self.collate.length(example) for example in examples]
        return [examples[run] for run in token_batches(lengths, self.config.learner.micro_tokens)]

    def _most(self, count: int) -> int:
        """The largest of all ranks' counts."""
        most = torch.tensor(count, device=self.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)

    def _update(self) -> dict[str, float]:
        """The optimiser step at this step's learning rate."""
        rate = learning_rate(self.steps, self.total_steps, self.config.learner)
        for group in base_optimizer(self.engine).param_groups:
            group["lr"] = rate
        self.engine.step()
        self.steps += 1
        return {"lr": rate, "grad_norm": float(self.engine.get_global_grad_norm() or 0.0)}

    def named_tensors(self, whole: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Checkpoint names and whole weights, adapters merged, one after the other; called on every rank under ZeRO-3.

        whole: False leaves out what training never changes.
        """
        return policy_weights.named_tensors([weight for weight in self.weights if whole or weight.changes])

    def manifest(self) -> Manifest:
        """What `named_tensors` yields."""
        return policy_weights.manifest(self.weights)

    def save_policy(self, folder: Path) -> None:
        """Rank 0 writes a Hugging Face folder that transformers and vLLM open; every rank takes part."""
        whole = {}
        for name, tensor in self.named_tensors():
            if self.rank == 0:
                whole[name] = tensor.clone()
        if self.rank == 0:
            self.model.save_pretrained(folder, state_dict=whole)
            self.processor.save_pretrained(folder)
            write_world(folder, self.config.world)
        dist.barrier()
