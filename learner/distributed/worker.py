"""One DeepSpeed rank as a Ray actor."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray

from configs.cluster.profiling import Tracer
from configs.schema import Config
from learner.losses import Trajectory
from learner.policy.collator import Example


class LearnerWorker:
    """Wraps a `Trainer` as a Ray actor: it resolves references and answers calls, in the order they are made."""

    def __init__(self, rank: int, config: Config):
        import numpy
        import torch

        torch.set_num_threads(max(1, int(config.learner.cpus)))
        for seed in (random.seed, numpy.random.seed, torch.manual_seed):
            seed(config.seed)
        self._rank = rank
        self._config = config
        self._sender = None
        self._tracer = Tracer()

    def address(self) -> tuple[str, int]:
        """Finds a free port of this node, for the ranks to meet at."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind((host, 0))
            return host, free.getsockname()[1]

    def start(self, address: tuple[str, int], folder: str, total_steps: int, reference: str | None) -> None:
        """Meets the other ranks and builds the trainer."""
        import torch

        from learner.distributed.deepspeed import join
        from learner.distributed.trainer import Trainer
        from learner.distributed.utilization import Utilization

        host, port = address
        gpu = self._config.learner.gpus > 0
        local_rank = 0
        if gpu:
            local_rank = gpu_index(ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES"))
            torch.cuda.set_device(local_rank)
        place = {
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
            "RANK": self._rank,
            "WORLD_SIZE": self._config.learner.ranks,
            "LOCAL_RANK": local_rank,
        }
        os.environ.update({name: str(value) for name, value in place.items()})
        if host.startswith("127."):
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        join("nccl" if gpu else "gloo")
        self._trainer = Trainer(
            Path(folder), self._config, total_steps, Path(reference) if reference else None
        )
        dtype = getattr(torch, self._config.learner.dtype)
        self._utilization = Utilization(self._trainer.engine.module, self._trainer.device, dtype)

    def open_corpus(self, folder: str, split: str) -> int:
        """Makes a corpus split this rank's source of SFT batches; returns its number of samples."""
        from learner.distributed.sampler import open_stream

        self._corpus, self._ahead = (Path(folder), split), (-1, None)
        self._stream = open_stream(self._config, *self._corpus, self._rank)
        return len(self._stream.samples)

    def sft_corpus_step(self, step: int) -> dict[str, float]:
        """Takes a step on this rank's share of the step-th batch of the open corpus."""
        language = self._trainer.language
        samples = self._prepared(step) if self._config.learner.ahead else [(s, None) for s in self._stream(step)]
        examples = [Example(s.degraded, language.completion(s.degradation, s.degraded), views) for s, views in samples]
        return self._utilization.of(self._trainer.sft_step, examples)

    def _prepared(self, step: int) -> list[tuple]:
        from learner.distributed.ahead import Ahead

        expected, batches = self._ahead
        if step != expected:
            batches = iter(Ahead(self._config, *self._corpus, self._rank, step).loader())
        self._ahead = step + 1, batches
        return next(batches)

    def sft_step(self, examples: Sequence[Example]) -> dict[str, float]:
        """Takes a step on this rank's share of the examples."""
        return self._utilization.of(self._trainer.sft_step, _fetched(examples))

    def grpo_step(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Takes a step on this rank's share of the judged completions."""
        examples = _fetched([t.example for t in trajectories])
        judged = [replace(t, example=e) for t, e in zip(trajectories, examples, strict=True)]
        return self._utilization.of(self._trainer.grpo_step, judged)

    def profile(self, folder: str) -> None:
        """Begins a trace of what this rank does, where `folder` is empty; else ends it and writes it there."""
        self._tracer.turn(folder, f"learner-{self._rank}")

    def logprobs(self, examples: Sequence[Example]) -> list[list[float]]:
        """Returns the log-probabilities of the tokens of this rank's share of the examples."""
        return self._trainer.logprobs(_fetched(examples))

    def answers(self, folder: str, split: str, indices: Sequence[int], max_tokens: int) -> list[str]:
        """Returns greedy answers to samples of a corpus split, decoded here."""
        from envs.corpus.reader import read_samples
        from envs.world import world_taxonomy

        samples = read_samples(Path(folder), split, world_taxonomy(self._config.world), clean=False)
        return self._trainer.answers([samples[i].degraded for i in indices], max_tokens)

    def save_policy(self, folder: str) -> None:
        """Takes part in writing the policy, which rank 0 does."""
        self._trainer.save_policy(Path(folder))

    def save(self, folder: str) -> None:
        """Writes this rank's part of a checkpoint; rank 0 the policy into FOLDER/policy."""
        from learner.distributed.state import save_checkpoint

        save_checkpoint(self._trainer, Path(folder))

    def load(self, folder: str) -> int:
        """Continues from a checkpoint; returns the optimiser steps made by then."""
        from learner.distributed.state import load_checkpoint

        load_checkpoint(self._trainer, Path(folder))
        return self._trainer.steps

    def weight_manifest(self):
        """Describes the policy's tensors, in order, and names those that training never changes."""
        return self._trainer.manifest()

    def send_weights(self, engines: Sequence, whole: bool, version: int) -> None:
        """Sends the policy, or what training changes of it, from rank 0 to the rollout engines.

        All ranks are called: ZeRO-3 gathers.

        Raises:
            TransferError: an engine could not take the weights. The rank is as before.
        """
        from rollout.vllm.arguments import gpus_spread_over
        from rollout.weights.transfer import EngineClient

        tensors, manifest = self._trainer.named_tensors(whole), self._trainer.manifest()
        try:
            if self._rank == 0:
                client = EngineClient(engines, gpus_spread_over(self._config), self._config.rollout.timeout, version)
                self._weight_sender().send(client, manifest if whole else manifest.changing(), tensors)
        finally:  # also after a failure: every rank gathers as often as the others, or they wait for it
            for _ in tensors:
                pass

    def _weight_sender(self):
        from rollout.vllm.arguments import transfer_backend
        from rollout.weights.transfer import BUCKET_BYTES, WeightSender

        if self._sender is None:
            limit = min(BUCKET_BYTES, self._trainer.manifest().bytes)
            address, timeout = ray.util.get_node_ip_address(), self._config.rollout.timeout
            self._sender = WeightSender(transfer_backend(self._config), address, timeout, limit)
        return self._sender


def gpu_index(assigned: Sequence[int | str], visible: str | None) -> int:
    """Finds which of the devices that this process sees is the one that Ray assigned to it.

    Ray hides the others, unless RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES tells it not to: then the index is that of
    the node, not 0.

    Args:
        assigned: `ray.get_gpu_ids()`.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    if visible is None:
        return int(assigned[0])
    devices = visible.split(",")
    return devices.index(str(assigned[0])) if str(assigned[0]) in devices else 0


def _fetched(examples: Sequence[Example]) -> list[Example]:
    """Fetches the images that are references to a `Sample`, each distinct one once."""
    references = {e.image for e in examples if isinstance(e.image, ray.ObjectRef)}
    samples = dict(zip(references, ray.get(list(references)), strict=True))
    images = {reference: sample.degraded for reference, sample in samples.items()}
    return [replace(e, image=images[e.image]) if isinstance(e.image, ray.ObjectRef) else e for e in examples]
