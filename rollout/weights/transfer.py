"""Sends the learner's weights to the engines; lives in the learner's first rank.

The learner's end drives an update through vLLM's weight-transfer API. Three backends carry the bytes: vLLM's `nccl`
between whole GPUs, vLLM's `ipc` where learner and engines share one GPU (NCCL refuses two ranks on one), and `gloo`
(`rollout.weights.gloo`) everywhere else. The engines' end is vLLM's own for `nccl` and `ipc`, and
`rollout.weights.receiver` for `gloo`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError

from configs.cluster.supervision import describe_failure
from rollout.weights.gloo import GlooTrainer
from rollout.weights.manifest import Manifest, NamedTensors, checked

BUCKET_BYTES = 256 * 2**20
"""Bytes of a bucket, at most; a larger tensor is a bucket of its own."""
GRACE = 30.0
"""Seconds in which the engines of a failed update may still say why it failed."""


class TransferError(RuntimeError):
    """Says that the weights did not reach the engines, and why. The learner is as before."""


class EngineLostError(TransferError):
    """Says that an engine is gone or does not answer, and how it ended."""


LOST = (RayActorError, EngineLostError, TimeoutError)
"""Errors of a call to an engine after which it must be started anew."""


class EngineClient:
    """Calls all engines at once on behalf of a weight transfer; vLLM knows this as a `VLLMWeightSyncClient`.

    Args:
        engines: handles of the `RolloutActor`s.
        workers: GPUs, and so vLLM workers, of each engine; 1 on CPUs.
        timeout: seconds that one call may take.
        version: the weight version that the update brings the engines to.
    """

    def __init__(self, engines: Sequence[Any], workers: int, timeout: float, version: int):
        self.engines = tuple(engines)
        self._workers = workers
        self._timeout = timeout
        self._version = version
        self._calls: list = []

    @property
    def world_size(self) -> int:
        """Members of a transfer group: the sender and all workers."""
        return 1 + self._workers * len(self.engines)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Lets every engine join the transfer, each with the ranks of its workers where the backend has ranks."""
        has_ranks = "world_size" in init_info
        ranks = [{"rank_offset": 1 + self._workers * i} if has_ranks else {} for i in range(len(self.engines))]
        self._call("open_transfer", [(init_info | rank,) for rank in ranks])

    def start_weight_update(self) -> None:
        """Waits for the groups in flight, and holds back later ones."""
        self._call("begin_update", [()] * len(self.engines))

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Lets every engine receive and load what `update_info` announces."""
        self._call("receive", [(update_info,)] * len(self.engines))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Lets every engine sample again, with the new weights and their version."""
        self._call("finish_update", [(self._version,)] * len(self.engines))

    def explain(self, error: Exception) -> TransferError:
        """Finds out why an update failed with `error`: a lost engine is the cause, else an engine's own error."""
        answered, silent = (), ()
        if self._calls:
            answered, silent = ray.wait(self._calls, num_returns=len(self._calls), timeout=GRACE)
        refusal = None
        for call in answered:
            try:
                ray.get(call)
            except LOST as lost:
                return EngineLostError(f"a rollout engine was lost in a weight update: {describe_failure(lost)}")
            except Exception as failure:
                refusal = failure
        if silent:
            return EngineLostError("a rollout engine was lost in a weight update: no answer in time, it hangs")
        if refusal is not None:
            return TransferError(f"an engine could not take the weights: {describe_failure(refusal)}")
        return TransferError(f"the weights did not reach all engines: {describe_failure(error)}")

    def _call(self, method: str, arguments: Sequence[tuple]) -> None:
        self._calls = [
            getattr(engine, method).remote(*given) for engine, given in zip(self.engines, arguments, strict=True)
        ]
        ray.get(self._calls, timeout=self._timeout)


@dataclass(frozen=True)
class TensorSource:
    """Yields the tensors of one update, checked against the manifest; vLLM knows this as a `WeightSource`."""

    manifest: Manifest
    named_tensors: NamedTensors

    def metadata(self) -> list:
        """Lists what iteration will yield, as vLLM's `ParamMeta`."""
        from vllm.distributed.weight_transfer.base import ParamMeta

        rows = zip(self.manifest.names, self.manifest.dtype_names, self.manifest.shapes, strict=True)
        return [ParamMeta(name, getattr(torch, dtype), shape) for name, dtype, shape in rows]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return checked(self.manifest, self.named_tensors)


class WeightSender:
    """Brings engines to the learner's weights, as often as they change; the transfer stays open in between.

    Args:
        backend: "nccl", "ipc" or "gloo".
        address: where the engines reach this process.
        timeout: seconds after which a step fails instead of hanging (over NCCL only joining does).
        bucket_bytes: bytes of a bucket, at most.
    """

    def __init__(self, backend: str, address: str, timeout: float = 300.0, bucket_bytes: int = BUCKET_BYTES):
        self._backend = backend
        self._address = address
        self._timeout = timeout
        self._limit = bucket_bytes
        self._trainer: Any = None

    def send(self, client: EngineClient, manifest: Manifest, named_tensors: NamedTensors) -> int:
        """Sends the tensors, which come in the manifest's order, to all engines of `client`. Returns the bytes sent.

        Raises:
            ValueError: a tensor is not what the manifest announces.
            TransferError: an engine could not take the weights; EngineLostError: it is gone or hangs.
                After any error the transfer is closed, and the next call opens it anew.
        """
        source = TensorSource(manifest, named_tensors)
        try:
            if self._trainer is None or self._trainer.client.engines != client.engines:
                self.close()
                self._trainer = self._open(client, source)
            self._trainer.client = client
            self._trainer.source = source
            self._trainer.send_weights()
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they hold the group too, and engines would wait in it
            self.close()
            if isinstance(error, (RuntimeError, OSError, ray.exceptions.RayError)):
                raise client.explain(error) from error
            raise
        return manifest.bytes

    def close(self) -> None:
        """Leaves the transfer."""
        if self._trainer is not None:
            self._trainer.shutdown()
        self._trainer = None

    def _open(self, client: EngineClient, source: TensorSource) -> Any:
        """Returns the trainer's end of the backend once all engine workers have joined."""
        if self._backend == "gloo":
            return GlooTrainer(client, self._address, client.world_size, self._timeout, self._limit)
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

        return WeightTransferTrainerFactory.trainer_init(self._init_info(client, source), client=client, source=source)

    def _init_info(self, client: EngineClient, source: TensorSource) -> Any:
        if self._backend == "ipc":
            from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

            limit = max(self._limit, *source.manifest.sizes)  # one buffer, which must hold the largest tensor
            return IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=limit, rank=0)
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
        from vllm.utils.network_utils import get_open_port

        return NCCLTrainerInitInfo(
            master_address=self._address,
            master_port=get_open_port(),
            world_size=client.world_size,
            packed_buffer_size_bytes=self._limit,
            rank=0,
        )
