"""One DeepSpeed rank: forward, loss, step, state. No Ray here; every method is called on all ranks alike.

A global batch is the union of what the ranks are given; losses are means over all its completion tokens,
whatever the number of ranks and the size of a micro-batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from configs.schema import Config
from envs.policy_world import world_taxonomy, write_world
from learner import grpo
from learner.decoding import greedy
from learner.deepspeed_settings import base_optimizer, gathered, initialize, learning_rate, summed
from learner.examples import Batch, Collator, Example
from learner.policy import Policy, load_policy
from learner.targets import AnswerLanguage, sft_loss

WEIGHT_DECAY = 0.01


class Trainer:
    """Holds the policy, its optimiser and, where KL is wanted, a frozen reference."""

    def __init__(self, folder: Path, config: Config, total_steps: int, reference: Path | None = None):
        """
        Args:
            folder: the policy to begin with.
            total_steps: length of the learning-rate schedule.
            reference: policy whose KL is penalised; None keeps no second copy.

        The default process group must exist already.
        """
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
        self.reference = None
        if reference is not None:
            self.reference = Policy(load_policy(reference)[0].to(self.device), **shape).requires_grad_(False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learner.lr, weight_decay=WEIGHT_DECAY)
        self.engine = initialize(Policy(model, **shape), optimizer, config.learner, self.ranks, gpu)
        self.model = model

    def sft_step(self, examples: Sequence[Example]) -> dict[str, float]:
        """One optimiser step of cross-entropy on this rank's share of the global batch."""
        began = time.perf_counter()
        tokens = summed([sum(len(e.completion) for e in examples)], self.device)[0]
        loss, preparing = 0.0, 0.0
        chunks = list(_chunks(examples, self.config.learner.micro_batch))
        for chunk, last in chunks:
            start = time.perf_counter()
            batch, targets = (
                self.collate(chunk).to(self.device),
                self.language.targets([e.completion for e in chunk]),
            )
            preparing += time.perf_counter() - start
            self.engine.set_gradient_accumulation_boundary(last)
            part = sft_loss(self.engine(batch), targets) / tokens
            self.engine.backward(part * self.ranks, scale_wrt_gas=False)  # DeepSpeed averages over ranks
            loss += part.item()
        step = self._update(decays=True)
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

        The loss is averaged as `config.grpo.loss` says (see learner.grpo) over the completions of all ranks. Metrics
        are means over all their tokens: KL to the reference, mismatch between learner and rollout log-probs, share
        of clipped tokens, entropy.
        """
        settings = self.config.grpo
        began = time.perf_counter()
        batches = [
            self._rollout_batch(chunk) for chunk, _ in _chunks(trajectories, self.config.learner.micro_batch)
        ]
        most = torch.tensor(len(batches), device=self.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        while len(batches) < most:  # every rank makes as many passes: collectives inside must meet
            batch, *rest = batches[0]
            batches.append((replace(batch, mask=torch.zeros_like(batch.mask)), *rest))
        tokens, completions = summed(
            [sum(batch.mask.sum().item() for batch, *_ in batches), len(trajectories)], self.device
        )
        references = [
            self._logprobs(self.reference, batch) if self.reference else None for batch, *_ in batches
        ]
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
            step = self._update(decays=False)
            totals = dict(zip(sums, summed(list(sums.values()), self.device), strict=True))
            loss = totals.pop("loss") / completions
            metrics = {"loss": loss, **{name: total / tokens for name, total in totals.items()}, **step}
        return metrics | {"tokens": tokens, "seconds": time.perf_counter() - began}

    def _grpo_loss(
        self, batch: Batch, rollout, advantages, old, reference
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss summed over completions, metrics summed over tokens."""
        logits = self.engine(batch)
        logprobs = grpo.token_logprobs(logits, batch.completion)
        old = logprobs.detach() if old is None else old
        losses, parts = grpo.token_losses(
            logprobs, old, rollout, reference, advantages, batch.mask, self.config.grpo
        )
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
        for chunk, _ in _chunks(images, self.config.learner.micro_batch):
            texts += greedy(self.engine.module, self.collate, self.processor.tokenizer, chunk, max_tokens)
        return texts

    def _update(self, decays: bool) -> dict[str, float]:
        """The optimiser step at this step's learning rate."""
        rate = learning_rate(self.steps, self.total_steps, self.config.learner, decays)
        for group in base_optimizer(self.engine).param_groups:
            group["lr"] = rate
        self.engine.step()
        self.steps += 1
        return {"lr": rate, "grad_norm": float(self.engine.get_global_grad_norm() or 0.0)}

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Checkpoint names and whole weights, one after the other; called on every rank under ZeRO-3."""
        for name, parameter in self.model.named_parameters():
            with gathered([parameter]):
                yield name, parameter.detach()

    def signature(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, dtype, shape) of what `named_tensors` yields, without gathering anything."""
        named = self.model.named_parameters()
        return [
            (n, str(p.dtype).removeprefix("torch."), tuple(getattr(p, "ds_shape", p.shape))) for n, p in named
        ]

    def save_policy(self, folder: Path) -> None:
        """Rank 0 writes a Hugging Face folder that transformers and vLLM open; every rank takes part."""
        weights = (
            {name: tensor.clone() for name, tensor in self.named_tensors()}
            if self._keeps_shards or not self.rank
            else {}
        )
        if self.rank == 0:
            self.model.save_pretrained(folder, state_dict=weights)
            self.processor.save_pretrained(folder)
            write_world(folder, self.config.world)
        dist.barrier()

    @property
    def _keeps_shards(self) -> bool:
        return self.config.learner.zero == 3


def _chunks(items: Sequence, size: int) -> Iterator[tuple[Sequence, bool]]:
    """Slices of at most `size`, each with whether it is the last."""
    for start in range(0, len(items), size):
        yield items[start : start + size], start + size >= len(items)
