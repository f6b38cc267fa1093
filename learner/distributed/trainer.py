"""One DeepSpeed rank: forward, loss, step, state. No Ray here; every method is called on all ranks alike.

A global batch is the union of what the ranks are given; losses are means over all its completion tokens,
whatever the number of ranks and the size of a micro-batch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from configs import manifest
from configs.schema import Config
from envs.language.vocabulary import AnswerTokens
from envs.world import world_taxonomy, write_world
from learner import losses
from learner.distributed import weights as policy_weights
from learner.distributed.deepspeed import (
    adamw,
    base_optimizer,
    initialize,
    learning_rate,
    load_sharded,
    parameter_dtype,
    summed,
)
from learner.fitted import expectation
from learner.policy.collator import Batch, Collator, Example, token_batches
from learner.policy.generate import greedy
from learner.policy.model import Policy, load_policy
from learner.policy.targets import AnswerLanguage, sft_loss, target_logprobs
from rollout.weights.manifest import Manifest

SHARD_SIZE = "5GB"
"""Of the files of a saved policy, so that several are hashed at a time."""


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
        learner = config.learner
        if learner.lora and reference not in (None, folder):
            raise ValueError(f"with LoRA the reference is the policy it begins with, {folder}; got {reference}")
        self.config, self.total_steps, self.steps = config, total_steps, 0
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        gpu = torch.cuda.is_available() and learner.gpus > 0
        self.device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        dtype = parameter_dtype(learner, gpu)
        if learner.zero == 3:
            model, self.processor = load_sharded(folder, learner, self.ranks, gpu, dtype)
        else:
            model, self.processor = load_policy(folder, dtype, self.device)
        shape = {"autocast": learner.dtype == "bfloat16" and not gpu, "linear_patches": not gpu and learner.zero < 3}
        self.collate = Collator(self.processor, model.model, config.world.views)
        taxonomy = world_taxonomy(config.world)
        self.answer_tokens = AnswerTokens.of(self.processor.tokenizer, taxonomy)
        self.language = AnswerLanguage(self.processor.tokenizer, taxonomy, config.world.rationale, learner.smooth)
        self.reference, self._penalised = None, reference is not None
        if self._penalised and not learner.lora:
            frozen = load_policy(reference, dtype, self.device)[0]
            self.reference = Policy(frozen, **shape).requires_grad_(False)
        policy_weights.choose_trained(model, learner.lora, learner.trained)
        if "checkpointing" in learner.memory:
            model.train().gradient_checkpointing_enable({"use_reentrant": False})  # no layer here has dropout
        self.engine = initialize(Policy(model, **shape), adamw(model, learner, gpu), learner, self.ranks, gpu)
        self.model, self.weights = model, policy_weights.weights(model)

    def sft_step(self, examples: Sequence[Example]) -> dict[str, float]:
        """Takes one optimiser step of cross-entropy on this rank's share of the global batch; returns its metrics."""
        began = time.perf_counter()
        tokens = summed([sum(len(e.completion) for e in examples)], self.device)[0]
        loss, preparing = 0.0, 0.0
        chunks = self._chunks(examples)
        passes = self._largest(len(chunks))
        for i in range(passes):
            chunk, counts = chunks[min(i, len(chunks) - 1)], i < len(chunks)
            start = time.perf_counter()
            batch = self.collate(chunk).to(self.device)
            targets = self.language.targets([e.completion for e in chunk])
            preparing += time.perf_counter() - start
            self.engine.set_gradient_accumulation_boundary(i == passes - 1)
            pieces = self._largest(self.engine.module.pieces(batch))
            logprobs = self.engine(batch, target_logprobs, targets.ids.to(self.device), pieces=pieces)[0]
            part = sft_loss(logprobs, targets) / tokens * counts
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

    def grpo_step(self, trajectories: Sequence[losses.Trajectory]) -> dict[str, float]:
        """Takes `config.grpo.epochs` optimiser steps on this rank's share of judged completions (at least one).

        The loss is averaged as `config.grpo.loss` says (see learner.losses) over the completions of all ranks. Where no
        completion of any rank has an advantage, the steps are counted and not taken: what is left is rounding and the
        KL, which Adam would blow up to steps of full size.

        Returns:
            Means over all tokens: KL to the reference, mismatch between learner and rollout log-probs, share of
            clipped tokens, entropy; `skipped`: 1 where the steps were not taken, else 0.
        """
        began = time.perf_counter()
        if not summed([sum(abs(t.advantage) for t in trajectories)], self.device)[0]:
            self.steps += self.config.grpo.epochs
            return {"loss": 0.0, "grad_norm": 0.0, "skipped": 1.0, "seconds": time.perf_counter() - began}
        lengths = [self.collate.length(t.example) for t in trajectories]
        chunks = [trajectories[run] for run in token_batches(lengths, self.config.learner.micro_tokens)]
        batches = [self._rollout_batch(chunk) for chunk in chunks]
        passes = self._largest(len(batches))
        while len(batches) < passes:
            batch, *rest = batches[0]
            batches.append((replace(batch, mask=torch.zeros_like(batch.mask)), *rest))
        pieces = self._largest(max(self.engine.module.pieces(batch) for batch, *_ in batches))
        tokens, completions = summed(
            [sum(batch.mask.sum().item() for batch, *_ in batches), len(trajectories)], self.device
        )
        numbers = self._numbers(chunks, [batch for batch, *_ in batches], pieces)
        references = [self._reference_logprobs(batch, pieces) if self._penalised else None for batch, *_ in batches]
        several = self.config.grpo.epochs > 1
        old = [self._logprobs(self.engine, batch, pieces) if several else None for batch, *_ in batches]
        metrics: dict[str, float] = {}
        for _ in range(self.config.grpo.epochs):
            sums: dict[str, float] = {}
            for i, (batch, rollout, advantages) in enumerate(batches):
                self.engine.set_gradient_accumulation_boundary(i == len(batches) - 1)
                loss, parts = self._grpo_loss(batch, rollout, advantages, old[i], references[i], pieces, numbers[i])
                self.engine.backward(loss / completions * self.ranks, scale_wrt_gas=False)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + value
            step = self._update()
            totals = dict(zip(sums, summed(list(sums.values()), self.device), strict=True))
            loss = totals.pop("loss") / completions
            metrics = {"loss": loss, **{name: total / tokens for name, total in totals.items()}, **step}
        return metrics | {"tokens": tokens, "skipped": 0.0, "seconds": time.perf_counter() - began}

    def _grpo_loss(
        self, batch: Batch, rollout, advantages, old, reference, pieces: int, numbers: expectation.Numbers | None
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss summed over completions, metrics summed over tokens."""
        settings = self.config.grpo
        if numbers is None:
            expected = None
            logprobs, entropy = self.engine(batch, losses.logprobs_and_entropy, batch.completion, pieces=pieces)
        else:
            read, targets = numbers.read, (batch.completion, numbers.row)
            logprobs, entropy, worth = self.engine(batch, read, *targets, pieces=pieces)
            expected = numbers.row > 0, worth
        old = logprobs.detach() if old is None else old
        each, parts = losses.token_losses(logprobs, old, rollout, reference, advantages, batch.mask, settings, expected)
        loss = losses.summed_loss(each, batch.mask, settings.loss, self.config.rollout.max_tokens)
        with torch.no_grad():
            parts["entropy"] = entropy
            sums = {name: (value * batch.mask).sum().item() for name, value in parts.items()}
        return loss, {"loss": loss.item(), **sums}

    def _rollout_batch(self, chunk: Sequence[losses.Trajectory]) -> tuple[Batch, torch.Tensor, torch.Tensor]:
        """The batch, the engine's log-probs (B, T) and the advantages (B,) of judged completions."""
        batch = self.collate([t.example for t in chunk]).to(self.device)
        rollout = torch.zeros(batch.mask.shape, device=self.device)
        for row, trajectory in enumerate(chunk):
            rollout[row, : len(trajectory.logprobs)] = torch.tensor(trajectory.logprobs)
        return batch, rollout, torch.tensor([t.advantage for t in chunk], device=self.device)

    @torch.no_grad()
    def _numbers(
        self, chunks: Sequence[Sequence[losses.Trajectory]], batches: Sequence[Batch], pieces: int
    ) -> Sequence[expectation.Numbers | None]:
        """Lays out the numbers of each batch that are learned from a curve; None throughout for the plain estimator.

        Where curves of two numbers are among them, on any rank, one pass reads what the policy believes of the second.
        """
        if self.config.grpo.estimator == "plain":
            return [None] * len(batches)
        surplus, answers = len(batches) - len(chunks), self.answer_tokens
        seconds = [expectation.lay_out(chunk, answers, expectation.seconds_alone).to(self.device) for chunk in chunks]
        believed = []
        if summed([sum(len(each.tokens) for each in seconds)], self.device)[0]:
            for batch, each in zip(batches, seconds + seconds[:1] * surplus, strict=True):
                believed.append(self.engine(batch, each.densities, each.row, pieces=pieces)[0])
        worth = expectation.of_curves(expectation.first_worths(chunks, answers, believed))
        numbers = [expectation.lay_out(chunk, answers, worth).to(self.device) for chunk in chunks]
        return numbers + numbers[:1] * surplus

    @torch.no_grad()
    def _logprobs(self, policy: torch.nn.Module, batch: Batch, pieces: int) -> torch.Tensor:
        return policy(batch, _read_logprobs, batch.completion, pieces=pieces)[0]

    def _reference_logprobs(self, batch: Batch, pieces: int) -> torch.Tensor:
        with nullcontext() if self.reference else policy_weights.adapters_off(self.model):
            return self._logprobs(self.reference or self.engine, batch, pieces)

    @torch.no_grad()
    def logprobs(self, examples: Sequence[Example]) -> list[list[float]]:
        """Returns the log-probability of each completion token under the policy as it is now."""
        batch = self.collate(examples).to(self.device)
        rows = self._logprobs(self.engine, batch, self._largest(self.engine.module.pieces(batch)))
        return [row[: len(e.completion)].tolist() for row, e in zip(rows, examples, strict=True)]

    def answers(self, images: Sequence, max_tokens: int) -> list[str]:
        """Returns greedy answers to uint8 (H, W, 3) images of one size, without end-of-turn token; equally many on each
        rank."""
        texts: list[str] = []
        for chunk in self._chunks([Example(image, (0,) * max_tokens) for image in images]):
            shown = [example.image for example in chunk]
            sharded = self.config.learner.zero == 3
            texts += greedy(self.engine.module, self.collate, self.processor.tokenizer, shown, max_tokens, sharded)
        return texts

    def _chunks(self, examples: Sequence[Example]) -> list[Sequence[Example]]:
        """Cuts examples into runs, each a forward pass of at most `learner.micro_tokens` tokens."""
        lengths = [self.collate.length(example) for example in examples]
        return [examples[run] for run in token_batches(lengths, self.config.learner.micro_tokens)]

    def _largest(self, count: int) -> int:
        """The largest of all ranks' counts."""
        largest = torch.tensor(count, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def _update(self) -> dict[str, float]:
        """Takes the optimiser step at this step's learning rate."""
        rate = learning_rate(self.steps, self.total_steps, self.config.learner)
        for group in base_optimizer(self.engine).param_groups:
            group["lr"] = rate
        self.engine.step()
        self.steps += 1
        return {"lr": rate, "grad_norm": float(self.engine.get_global_grad_norm() or 0.0)}

    def named_tensors(self, whole: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields checkpoint names and whole weights, adapters merged, one after the other; on every rank under ZeRO-3.

        whole: False leaves out what training never changes.
        """
        return policy_weights.named_tensors([weight for weight in self.weights if whole or weight.changes])

    def manifest(self) -> Manifest:
        """Announces what `named_tensors` yields."""
        return policy_weights.manifest(self.weights)

    def gather_policy(self) -> dict[str, torch.Tensor]:
        """Gathers all whole weights in rank 0's host memory, one by one; other ranks take part, and get none."""
        whole = {}
        for weight, (_, tensor) in zip(self.weights, self.named_tensors(), strict=True):
            if self.rank == 0:
                whole[weight.name] = tensor.to("cpu", copy=True)  # save_pretrained gives them their saved names
        return whole

    def write_policy(self, folder: Path, whole: dict[str, torch.Tensor]) -> None:
        """Writes, on rank 0, what `gather_policy` gave as a Hugging Face folder that transformers and vLLM open.

        folder: new or empty. No rank waits for it in a collective: it may last longer than those may.
        """
        if self.rank == 0:
            self.model.save_pretrained(folder, state_dict=whole, max_shard_size=SHARD_SIZE)
            self.processor.save_pretrained(folder)
            write_world(folder, self.config.world)

    def save_policy(self, folder: Path) -> None:
        """Gathers the policy and writes it with its manifest, in the place of an earlier one; every rank takes part."""
        whole, aside = self.gather_policy(), folder.with_name(f".{folder.name}")
        if self.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            self.write_policy(aside, whole)
            manifest.write(aside, "policy")
            manifest.replace(folder, aside)


def _read_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor]:
    return (losses.token_logprobs(logits, tokens),)
