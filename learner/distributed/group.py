"""The driver's handle on all learner workers, each a Ray actor that holds one DeepSpeed rank."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from configs import UserError
from configs.cluster.placement import Reservation
from configs.cluster.resources import learner_ranks
from configs.cluster.supervision import describe_failure
from configs.schema import Config
from learner.distributed.worker import LearnerWorker
from learner.losses import Trajectory
from learner.policy.collator import Example
from rollout.weights.transfer import GRACE, TransferError

PULSE = "pulse"
"""Concurrency group of a worker's second thread, which only answers: a worker whose work takes long still answers, one
that hangs does not. (Where all answer and a collective never ends, its own deadline finds it, see
`learner.distributed.deepspeed.COLLECTIVE_MINUTES`; sending weights has a shorter one.)"""
START_SECONDS, HANG_SECONDS, LOOK_SECONDS = 300.0, 60.0, 10.0
"""How long a worker may take to answer while it starts and afterwards, and how often it is asked."""


class LearnerError(RuntimeError):
    """Says that a worker failed or its process ended; the message carries the cause."""


class LearnerGroup:
    """Runs every call on all workers and waits for all of them; from asyncio, use `asyncio.to_thread`.

    Calls of several threads take turns.
    version: GRPO steps that the weights have taken.
    """

    def __init__(
        self, config: Config, folder: str | Path, total_steps: int, reference: str | Path | None = None,
        worker_class: type = LearnerWorker,
    ):  # fmt: skip
        """Starts `config.learner.ranks` actors on the connected cluster, with the policy in `folder`.

        Args:
            total_steps: optimiser steps of the whole job, the length of the learning-rate schedule.
            reference: folder of the policy whose KL is penalised; None keeps no second copy.
            worker_class: what the workers are, for measuring a loop without learning.

        Raises:
            UserError: `folder` holds no policy, or the cluster has no room.
            LearnerError: a worker failed while it started.
        """
        learner = config.learner
        environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if not learner.gpus:
            environment |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, int(learner.cpus)))}
        options = {
            "num_cpus": learner.cpus,
            "num_gpus": learner.gpus,
            "runtime_env": {"env_vars": environment},
            "max_restarts": 0,
        }
        self.turn = threading.RLock()
        self.version = 0
        self._epochs = config.grpo.epochs
        self._sending_seconds = 2 * (config.rollout.timeout + GRACE)  # groups in flight, then the transfer
        self._ended = ""  # why the workers were ended, once they were
        self._reservation = Reservation(learner_ranks(config))
        actor = ray.remote(concurrency_groups={PULSE: 1})(worker_class)
        self._workers = [
            actor.options(**options, **self._reservation.options(rank)).remote(rank, config)
            for rank in range(learner.ranks)
        ]
        address = self._wait([worker.address.remote() for worker in self._workers], START_SECONDS)[0]
        self._all("start", address, str(folder), total_steps, str(reference) if reference else None)

    def open_corpus(self, folder: str | Path, split: str) -> int:
        """Lets every worker read the split by itself, so that no image travels through the driver; its samples."""
        return self._all("open_corpus", str(folder), split)[0]

    def sft_corpus_step(self, step: int) -> dict[str, float]:
        """Takes one optimiser step on the step-th batch of the open corpus; returns its metrics."""
        return self._all("sft_corpus_step", step)[0]

    def sft_step(self, examples: Sequence[Example]) -> dict[str, float]:
        """Takes one optimiser step on `examples`, at least one a worker; returns its metrics."""
        return self._split("sft_step", examples)[0]

    def grpo_step(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Takes `grpo.epochs` optimiser steps on judged completions, at least one a worker; returns the last's metrics.

        Keep those of one group together: they share the vision tower's work.
        """
        if len(trajectories) < len(self._workers):
            raise ValueError(
                f"{len(trajectories)} completions for {len(self._workers)} ranks: expected one each at least"
            )
        with self.turn:
            metrics = self._split("grpo_step", trajectories)[0]
            self.version += 1
        return metrics

    def logprobs(self, examples: Sequence[Example]) -> list[list[float]]:
        """Returns the log-probability, nats, of every completion token under the weights as they are."""
        return sum(self._split("logprobs", examples), [])

    def answers(self, folder: str | Path, split: str, count: int, max_tokens: int) -> list[str]:
        """Returns greedy answers to the first `count` samples of a corpus split; `count` is a multiple of ranks."""
        share = count // len(self._workers)
        calls = [
            (str(folder), split, list(range(rank * share, (rank + 1) * share)), max_tokens)
            for rank in range(len(self._workers))
        ]
        return sum(self._each("answers", calls), [])

    def profile(self, folder: str) -> None:
        """Begins traces of all workers, where `folder` is empty; else ends them and writes them there."""
        self._all("profile", folder)

    def save_policy(self, folder: str | Path) -> None:
        """Writes the policy as a Hugging Face folder."""
        self._all("save_policy", str(folder))

    def save(self, folder: str | Path) -> None:
        """Writes model, optimiser, steps and random generators into `folder` (see learner.distributed.checkpoint)."""
        self._all("save", str(folder))

    def load(self, folder: str | Path) -> int:
        """Continues from what `save` wrote; returns the optimiser steps made by then."""
        with self.turn:
            steps = self._all("load", str(folder))[0]
            self.version = steps // self._epochs
        return steps

    def weight_manifest(self):
        """Describes the policy's tensors: names, dtypes, shapes, and which of them training never changes."""
        return self._one("weight_manifest")

    def send_weights(self, engines: Sequence[Any], whole: bool) -> int:
        """Sends the weights to `engines`, handles of `RolloutActor`s. Returns the version of what was sent.

        whole: send all tensors; otherwise those that training changes.

        Raises:
            TransferError: an engine could not take the weights, or went away. The workers go on.
            LearnerError: the workers took longer than an update may. (NCCL waits for ever for an engine that is gone.)
        """
        with self.turn:
            self._all("send_weights", tuple(engines), whole, self.version, limit=self._sending_seconds)
            return self.version

    def close(self) -> None:
        """Ends all workers and gives back what they reserved."""
        for worker in self._workers:
            ray.kill(worker)
        self._reservation.release()

    def _one(self, method: str, *arguments: Any, limit: float = math.inf) -> Any:
        with self.turn:
            return self._wait([getattr(self._workers[0], method).remote(*arguments)], limit=limit)[0]

    def _all(self, method: str, *arguments: Any, limit: float = math.inf) -> list:
        return self._each(method, [arguments] * len(self._workers), limit)

    def _split(self, method: str, items: Sequence) -> list:
        """Hands each worker a contiguous share, as even as can be."""
        count = len(self._workers)
        bounds = [len(items) * rank // count for rank in range(count + 1)]
        return self._each(method, [(items[start:stop],) for start, stop in zip(bounds, bounds[1:], strict=False)])

    def _each(self, method: str, calls: Sequence[tuple], limit: float = math.inf) -> list:
        with self.turn:
            futures = [
                getattr(worker, method).remote(*arguments)
                for worker, arguments in zip(self._workers, calls, strict=True)
            ]
            return self._wait(futures, limit=limit)

    def _wait(self, futures: list, patience: float = HANG_SECONDS, limit: float = math.inf) -> list:
        """Returns all results, or raises the first failure at once: the others would wait in a collective for ever.

        All workers are ended then, except after a TransferError: that an engine is gone is nothing to do with them.

        Args:
            patience: seconds a worker may take to answer.
            limit: seconds they may take for their work, where others than workers have a part in it.
        """
        deadline = time.monotonic() + limit
        try:
            while True:
                try:
                    return ray.get(futures, timeout=LOOK_SECONDS)
                except GetTimeoutError:
                    self._check_pulse(patience)
                    if time.monotonic() > deadline:
                        self._end(f"learner ranks answer, but what they are at does not end in {limit:g} s: they hang")
        except RayError as error:
            cause = _root_cause(futures, error)
            if isinstance(cause, TransferError):
                raise cause from None
            self.close()
            if isinstance(cause, UserError):
                raise cause from None
            raise LearnerError(
                f"a learner rank failed; run the job again to resume. Cause: {self._ended or describe_failure(cause)}"
            ) from error

    def _check_pulse(self, patience: float) -> None:
        """Ends all workers and raises LearnerError where one does not answer within `patience` seconds."""
        pulses = [worker.__ray_ready__.options(concurrency_group=PULSE).remote() for worker in self._workers]
        silent = ray.wait(pulses, num_returns=len(pulses), timeout=patience)[1]
        if silent:
            ranks = [pulses.index(pulse) for pulse in silent]
            self._end(f"learner ranks {ranks} have not answered for {patience:g} s: they hang")

    def _end(self, reason: str) -> NoReturn:
        """Ends all workers; a thread that waits for them meanwhile raises the same reason."""
        self._ended = reason
        self.close()
        raise LearnerError(reason)


def _root_cause(futures: list, first: Exception) -> Exception:
    """Finds the error that explains the others: when one worker's process ends, the others see broken connections."""
    errors = [first]
    for future in ray.wait(futures, num_returns=len(futures), timeout=5)[0]:
        try:
            ray.get(future)
        except RayError as error:
            errors.append(error)
    cause = next((error for error in errors if isinstance(error, RayActorError)), first)
    plain = cause.cause if isinstance(cause, RayTaskError) else None
    return plain if isinstance(plain, (UserError, TransferError)) else cause
