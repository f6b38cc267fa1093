"""The driver's handle on all learner ranks, each a Ray actor."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from configs.cluster.placement import Reservation
from configs.cluster.resources import learner_ranks
from configs.schema import Config
from learner.distributed.watch import PULSE, LearnerError, Watch
from learner.distributed.worker import LearnerRank
from learner.losses import Trajectory
from learner.policy.collator import Example
from rollout.weights.transfer import Endpoint
from rollout.weights.update import GRACE

__all__ = ["Learner", "LearnerError"]

START_SECONDS = 300.0
"""How long a rank that is starting may take to answer."""


class Learner:
    """All ranks as one. Every call waits for all of them; from asyncio, use `asyncio.to_thread`.

    Calls of several threads take turns; a thread that holds `turn` makes several without another's between them.
    version: GRPO steps behind the weights as they are.
    """

    def __init__(
        self, config: Config, folder: str | Path, total_steps: int, reference: str | Path | None = None,
        rank_class: type = LearnerRank,
    ):
        """Starts `config.learner.ranks` actors on the connected cluster, with the policy in `folder`.

        reference: policy whose KL is penalised; None keeps no second copy.
        rank_class: what the ranks are, for measuring a loop without learning.
        """
        learner = config.learner
        gpu = learner.gpus > 0
        environment = (
            {} if gpu else {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, int(learner.cpus)))}
        )
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        options = {
            "num_cpus": learner.cpus,
            "num_gpus": learner.gpus,
            "runtime_env": {"env_vars": environment},
            "max_restarts": 0,
        }
        self.turn, self.version, self._epochs = threading.RLock(), 0, config.grpo.epochs
        self._sending_seconds = config.rollout.timeout + GRACE
        self._room, actor = Reservation(learner_ranks(config)), ray.remote(concurrency_groups={PULSE: 1})(rank_class)
        self._ranks = [
            actor.options(**options, **self._room.options(rank)).remote(rank, config) for rank in range(learner.ranks)
        ]
        self._watch = Watch(self._ranks, self.close)
        address = self._watch.wait([rank.address.remote() for rank in self._ranks], START_SECONDS)[0]
        self._all("start", address, str(folder), total_steps, str(reference) if reference else None)

    def open_corpus(self, folder: str | Path, split: str) -> int:
        """Every rank reads the split by itself: no image travels through the driver. Number of samples."""
        return self._all("open_corpus", str(folder), split)[0]

    def sft_corpus_step(self, step: int) -> dict[str, float]:
        """Optimiser step on the step-th batch of the open corpus."""
        return self._all("sft_corpus_step", step)[0]

    def sft_step(self, examples: Sequence[Example]) -> dict[str, float]:
        """Optimiser step on `examples`; their number is a multiple of ranks and micro-batches."""
        return self._split("sft_step", examples)[0]

    def grpo_step(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Optimiser step(s) on judged completions, at least one a rank.

        Keep those of one group together: they share the vision tower's work.
        """
        if len(trajectories) < len(self._ranks):
            raise ValueError(
                f"{len(trajectories)} completions for {len(self._ranks)} ranks: expected one each at least"
            )
        with self.turn:
            metrics = self._split("grpo_step", trajectories)[0]
            self.version += 1
        return metrics

    def logprobs(self, examples: Sequence[Example]) -> list[list[float]]:
        """Of every completion token, under the weights as they are."""
        return sum(self._split("logprobs", examples), [])

    def answers(self, folder: str | Path, split: str, count: int, max_tokens: int) -> list[str]:
        """Greedy answers to the first `count` samples of a corpus split; `count` is a multiple of ranks."""
        share = count // len(self._ranks)
        calls = [
            (str(folder), split, list(range(r * share, (r + 1) * share)), max_tokens)
            for r in range(len(self._ranks))
        ]
        return sum(self._each("answers", calls), [])

    def save_policy(self, folder: str | Path) -> None:
        self._all("save_policy", str(folder))

    def save(self, folder: str | Path) -> None:
        """Writes model, optimiser, steps and random generators into `folder` (see learner.distributed.checkpoint)."""
        self._all("save", str(folder))

    def load(self, folder: str | Path) -> int:
        """Continues from what `save` wrote; optimiser steps made by then."""
        with self.turn:
            steps = self._all("load", str(folder))[0]
            self.version = steps // self._epochs
        return steps

    def bind_weights(self, timeout: float) -> Endpoint:
        return self._one("bind_weights", timeout, limit=self._sending_seconds)

    def open_weights(self, world_size: int) -> None:
        self._one("open_weights", world_size, limit=self._sending_seconds)

    def weight_manifest(self):
        return self._one("weight_manifest")

    def send_weights(self, whole: bool = False) -> int:
        """To the engines that have joined: everything, or what training changes; the version of what was sent.

        Raises:
            TransferError: an engine went away. The ranks go on; `bind_weights` and `open_weights` begin anew.
            LearnerError: the ranks took longer than an update may. (NCCL waits for ever for an engine that is gone.)
        """
        with self.turn:
            self._all("send_weights", whole, limit=self._sending_seconds)
            return self.version

    def close(self) -> None:
        for rank in self._ranks:
            ray.kill(rank)
        self._room.release()

    def _one(self, method: str, *arguments: Any, limit: float = math.inf) -> Any:
        with self.turn:
            return self._watch.wait([getattr(self._ranks[0], method).remote(*arguments)], limit=limit)[0]

    def _all(self, method: str, *arguments: Any, limit: float = math.inf) -> list:
        return self._each(method, [arguments] * len(self._ranks), limit)

    def _split(self, method: str, items: Sequence) -> list:
        """Contiguous shares, as even as can be, one a rank."""
        count = len(self._ranks)
        bounds = [len(items) * r // count for r in range(count + 1)]
        return self._each(method, [(items[a:b],) for a, b in zip(bounds, bounds[1:], strict=False)])

    def _each(self, method: str, calls: Sequence[tuple], limit: float = math.inf) -> list:
        with self.turn:
            made = [getattr(rank, method).remote(*call) for rank, call in zip(self._ranks, calls, strict=True)]
            return self._watch.wait(made, limit=limit)
