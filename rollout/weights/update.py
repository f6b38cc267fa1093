"""Runs weight updates from the driver: decides what is sent to which engines, and what a failure means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from configs.cluster.supervision import describe_failure
from rollout.weights.manifest import Manifest
from rollout.weights.transfer import EngineLostError, TransferError


class WeightSource(Protocol):
    """The learner as the rollout pool sees it: a `WeightSender` in its first rank, and whatever carries the calls."""

    async def manifest(self) -> Manifest:
        """Describes the policy's tensors, and names those that training never changes."""

    async def send(self, engines: Sequence[Any], whole: bool) -> int:
        """Sends the weights as they are now to `engines`, handles of `RolloutActor`s. Returns their version.

        whole: send all tensors of the manifest; otherwise those of `Manifest.changing` alone.

        Raises:
            TransferError: an engine could not take the weights; EngineLostError: it is gone or hangs.
        """


class WeightUpdateError(RuntimeError):
    """Says that new weights did not reach the engines; the message and the cause say why."""


class WeightUpdate:
    """Brings engines to a learner's weights.

    Args:
        policy_folder: where the engines were loaded from; the learner's tensors must be its tensors.
    """

    def __init__(self, policy_folder: str):
        self._folder = policy_folder
        self._engines: tuple = ()  # those that have had every tensor from this learner
        self._manifest: Manifest | None = None
        self.bytes = 0  # sent by the last update

    async def run(self, engines: Sequence[Any], source: WeightSource, whole: bool = False) -> int:
        """Brings `engines`, handles of `RolloutActor`s, to the source's weights. Returns their version.

        The first update of these engines carries every tensor; later ones carry what training changes.

        Raises:
            ValueError: the source's tensors are not those of the policy folder.
            EngineLostError: an engine ended on the way. All of `engines` must be started anew.
            WeightUpdateError: the source could not send, or an engine could not receive.
        """
        if self._manifest is None:
            manifest = await source.manifest()
            manifest.check(self._folder)
            self._manifest = manifest
        whole = whole or self._engines != tuple(engines)
        self._engines = ()  # after a failure they get every tensor again
        try:
            version = await source.send(engines, whole)
        except EngineLostError:
            raise
        except TransferError as error:
            raise WeightUpdateError(str(error)) from error
        except Exception as error:
            raise WeightUpdateError(f"the learner could not send weights: {describe_failure(error)}") from error
        self._engines = tuple(engines)
        self.bytes = (self._manifest if whole else self._manifest.changing()).bytes
        return version
