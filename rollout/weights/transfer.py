"""How weights travel from the learner to the engines: packed in buckets, broadcast to all engines at once.

The learner's first rank is rank 0 of the transfer group, the workers of the engines follow. Between GPUs of their own
this is vLLM's own `nccl` transfer. Between CPUs, and where learner and engines have shares of one GPU (which NCCL
refuses), the same protocol runs over gloo, its buckets through its memory (`rollout.weights.channel`;
receiver: `rollout.weights.receiver`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from rollout.weights.channel import Channel
from rollout.weights.manifest import Manifest, NamedTensors, as_bytes, buckets, checked, checksum, unpack

BUCKET_BYTES = 256 * 2**20
"""Of a bucket, at most; measured faster than 16 and 64 MiB. A larger tensor is copied once more on either side."""


class TransferError(RuntimeError):
    """An engine went away or was too slow, so the weights did not leave. The sender is as before, its group closed."""


@dataclass(frozen=True)
class Endpoint:
    """Where the engines find the sender, and the size of its buckets.

    The receivers take the sender's word for it: gloo would not notice a bucket shorter than expected.
    """

    address: str
    port: int
    bucket_bytes: int


def receive(channel: Channel, manifest: Manifest, limit: int, whole: bool = False) -> Iterator[NamedTensors]:
    """The tensors that the sender gives, bucket after bucket. vLLM keeps some of them until their layer is whole; the
    memory of a bucket is used again when it keeps none.

    Raises:
        RuntimeError: `whole`, after the last bucket: a tensor's checksum is not the sender's.
    """
    sums: list[int] = []
    for where in buckets(manifest.sizes, limit):
        bucket = manifest.part(where)
        tensors = unpack(channel.take(bucket.bytes), bucket)
        if whole:
            sums += [checksum(tensor) for _, tensor in tensors]
        yield tensors
        del tensors
    if whole:
        sent = channel.tell(torch.empty(len(sums), dtype=torch.int64))
        if wrong := [name for name, a, b in zip(manifest.names, sums, sent.tolist(), strict=True) if a != b]:
            some = ", ".join(wrong[:6])
            raise RuntimeError(f"weights arrived damaged: the checksums of {len(wrong)} tensors differ ({some})")


class WeightSender:
    """The learner's end of the transfer: `bind`, `open`, then `send` as often as weights change.

    Lives in the learner's first rank; other ranks only walk through their tensors, for the gathering.
    """

    def __init__(
        self, backend: str, timeout: float = 300.0, bucket_bytes: int = BUCKET_BYTES, device: str | torch.device = "cpu"
    ):
        """backend: "gloo" or "nccl". timeout: seconds after which a step fails instead of hanging (gloo). device: where
        the tensors are."""
        self._backend, self._limit, self._timeout = backend, bucket_bytes, timeout
        self._device = torch.device(device)
        self._socket = self._group = self._endpoint = None

    def bind(self, address: str) -> Endpoint:
        """Takes a free port on `address`, which the engines must reach, and leaves the old group."""
        self.close()
        self._socket = socket.create_server((address, 0))
        self._endpoint = Endpoint(address, self._socket.getsockname()[1], self._limit)
        return self._endpoint

    def open(self, world_size: int) -> None:
        """Waits until the world_size - 1 engine workers have joined; TransferError after `timeout` seconds."""
        listen, self._socket = self._socket, None
        address, port = self._endpoint.address, self._endpoint.port
        try:
            if self._backend == "gloo":
                self._group = Channel(
                    address, port, 0, world_size, self._timeout, self._limit, listen, self._device
                )
            else:
                listen.close()  # NCCL's store binds the port itself
                self._group = _nccl_group(address, port, world_size)
        except (OSError, RuntimeError) as error:
            wait = f"{world_size - 1} engine workers did not all join within {self._timeout:g} s"
            raise TransferError(f"weight transfer at {address}:{port}: {wait}") from error

    def send(self, manifest: Manifest, named_tensors: NamedTensors, whole: bool = False) -> int:
        """Broadcasts the tensors, which come in the manifest's order; `whole`: with their checksums, over gloo. Returns
        the bytes sent.

        Raises:
            ValueError: a tensor is not what the manifest announces.
            TransferError: an engine went away or was too slow. After any error the group is closed.
        """
        tensors, sums = checked(manifest, named_tensors), []
        try:
            if self._backend == "gloo":
                self._send_gloo(manifest, _summed(tensors, sums) if whole else tensors)
                if whole:
                    self._group.tell(torch.tensor(sums, dtype=torch.int64))
            else:
                self._send_nccl(manifest, tensors)
            next(tensors, None)  # runs the check that nothing is left over
        except (RuntimeError, OSError) as error:
            self.close()
            raise TransferError(f"the weights did not reach all engines: {error}") from error
        except BaseException:  # the caller's to handle; but engines must not wait
            self.close()
            raise
        return manifest.bytes

    def _send_gloo(self, manifest: Manifest, tensors: Iterator[torch.Tensor]) -> None:
        """Packs a bucket while the one before travels."""
        for cut in buckets(manifest.sizes, self._limit):
            self._group.put([as_bytes(tensor) for tensor in islice(tensors, cut.stop - cut.start)])
        self._group.flush()

    def _send_nccl(self, manifest: Manifest, tensors: Iterator[torch.Tensor]) -> None:
        from vllm.distributed.weight_transfer.packed_tensor import packed_nccl_broadcast_producer

        pairs = zip(manifest.names, tensors, strict=False)
        packed_nccl_broadcast_producer(pairs, self._group, 0, lambda p: p[1], buffer_size_bytes=self._limit)

    def close(self) -> None:
        """Leaves the group; engines that still wait in it get an error at once."""
        if self._socket is not None:
            self._socket.close()
        if self._backend == "nccl" and self._group is not None:
            self._group.destroy()
        self._socket = self._group = None


def _nccl_group(address: str, port: int, world_size: int):
    from vllm.distributed.weight_transfer.nccl_common import trainer_init

    return trainer_init({"master_address": address, "master_port": port, "world_size": world_size})


def _summed(tensors: Iterator[torch.Tensor], sums: list[int]) -> Iterator[torch.Tensor]:
    for tensor in tensors:
        sums.append(checksum(tensor))
        yield tensor
