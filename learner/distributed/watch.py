"""Waiting for learner ranks: for all of them, no longer than their work can take, and for none that is gone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ray

from configs import UserError
from configs.cluster.supervision import describe_failure
from rollout.weights.transfer import TransferError

PULSE = "pulse"
"""A rank's second thread, which only answers: long as its work may take, a rank that does not answer hangs. (Where
all answer and a collective never ends, torch.distributed's own deadline finds it: 30 minutes. Sending weights has a
shorter one.)"""
LOOK_SECONDS, HANG_SECONDS = 10.0, 60.0
"""How often the pulse is felt, and how long a rank may take to answer."""


class LearnerError(RuntimeError):
    """A rank failed or its process ended; the message carries the cause."""


class Watch:
    """Over `ranks`, handles of actors with the concurrency group `PULSE`. close: ends them all."""

    def __init__(self, ranks: Sequence[Any], close: Callable[[], None]):
        self._ranks, self._close, self._ended = ranks, close, ""

    def wait(self, futures: list, patience: float = HANG_SECONDS, limit: float = math.inf) -> list:
        """All results, or the first failure at once: the other ranks would wait in a collective for ever.

        They are ended then, except after a TransferError: that an engine is gone is nothing to do with them.

        Args:
            patience: seconds a rank may take to answer.
            limit: seconds they may take for their work, where others than ranks have a part in it.
        """
        ends = time.monotonic() + limit
        try:
            while True:
                try:
                    return ray.get(futures, timeout=LOOK_SECONDS)
                except ray.exceptions.GetTimeoutError:
                    self._feel_pulse(patience)
                    if time.monotonic() > ends:
                        self._end(f"learner ranks answer, but what they are at does not end in {limit:g} s: they hang")
        except ray.exceptions.RayError as error:
            cause = _cause(futures, error)
            if isinstance(cause, TransferError):
                raise cause from None
            self._close()
            if isinstance(cause, UserError):
                raise cause from None
            raise LearnerError(
                f"a learner rank failed; run the job again to resume. Cause: {self._ended or describe_failure(cause)}"
            ) from error

    def _feel_pulse(self, patience: float) -> None:
        """Ends all ranks and raises LearnerError where one does not answer; what it works on may take its time."""
        pulses = [rank.__ray_ready__.options(concurrency_group=PULSE).remote() for rank in self._ranks]
        silent = ray.wait(pulses, num_returns=len(pulses), timeout=patience)[1]
        if silent:
            ranks = [pulses.index(pulse) for pulse in silent]
            self._end(f"learner ranks {ranks} have not answered for {patience:g} s: they hang")

    def _end(self, why: str) -> NoReturn:
        """Who asks them afterwards is told why, too."""
        self._ended = why
        self._close()
        raise LearnerError(why)


def _cause(futures: list, first: Exception) -> Exception:
    """The error that explains the others: when one rank's process ends, the others see broken connections."""
    errors = [first]
    for future in ray.wait(futures, num_returns=len(futures), timeout=5)[0]:
        try:
            ray.get(future)
        except ray.exceptions.RayError as error:
            errors.append(error)
    cause = next((e for e in errors if isinstance(e, ray.exceptions.RayActorError)), first)
    plain = cause.cause if isinstance(cause, ray.exceptions.RayTaskError) else None
    return plain if isinstance(plain, (UserError, TransferError)) else cause
