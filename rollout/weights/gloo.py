"""Carries weights over gloo, from the learner's first rank to all engine workers at once; needs no vLLM.

vLLM brings weight transfers for GPUs (`nccl`, `ipc`) and none for CPUs. This is its counterpart: the same protocol
(start, update, finish), the tensors packed in buckets, each bucket one broadcast from rank 0. `GlooTrainer` is the
learner's end, `rollout.weights.receiver` the engine's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist

from rollout.weights.manifest import Manifest, NamedTensors, as_bytes, buckets, checksum, unpack


class GlooTrainer:
    """Sends weights over gloo; the counterpart of vLLM's `NCCLTrainerWeightTransferEngine` on CPUs.

    Args:
        client: the engines, as vLLM's `VLLMWeightSyncClient` protocol has them.
        address: where the engines reach this process.
        world_size: this process and all engine workers.
        timeout: seconds after which any step fails instead of hanging.
        limit: bytes of a bucket that is no single larger tensor.

    Raises:
        RuntimeError: not all workers joined within `timeout`; or whatever the client raised.
    """

    def __init__(self, client: Any, address: str, world_size: int, timeout: float, limit: int):
        self.client = client
        self.source = None
        self._limit = limit
        listener = socket.create_server((address, 0))
        port = listener.getsockname()[1]
        invitation = {
            "master_address": address,
            "master_port": port,
            "world_size": world_size,
            "packed_buffer_size_bytes": limit,
            "timeout": timeout,
        }
        self._thread = ThreadPoolExecutor(1)  # nobody waits for it after an error: its call may never end
        joining = self._thread.submit(join, address, port, 0, world_size, timeout, listener)
        client.init_weight_transfer_engine(invitation)
        self.group = joining.result()

    def send_weights(self) -> None:
        """Sends what `source` yields; returns once every engine has loaded it and answers again."""
        manifest = self.source.manifest
        update = {
            "names": list(manifest.names),
            "dtype_names": list(manifest.dtype_names),
            "shapes": [list(shape) for shape in manifest.shapes],
        }
        self.client.start_weight_update()
        receiving = self._thread.submit(self.client.update_weights, update)
        send(self.group, manifest, self.source, self._limit)
        receiving.result()
        self.client.finish_weight_update()

    def shutdown(self) -> None:
        """Leaves the group; engines that wait in it get an error at once."""
        self.group = None
        self._thread.shutdown(wait=False)


def join(
    address: str, port: int, rank: int, world_size: int, timeout: float, listener: socket.socket | None = None
) -> dist.ProcessGroupGloo:
    """Joins the transfer group, apart from this process's other groups; waits for all members.

    Args:
        rank: 0 is the sender.
        timeout: seconds that joining, and later each broadcast, may take.
        listener: the sender's socket, bound to `port` already.

    Raises:
        RuntimeError: not all members joined in time.
    """
    deadline = timedelta(seconds=timeout)
    descriptor = listener.detach() if listener else None
    store = dist.TCPStore(
        address, port, world_size, rank == 0, deadline, wait_for_workers=False, master_listen_fd=descriptor
    )
    return dist.ProcessGroupGloo(store, rank, world_size, deadline)


def send(group: dist.ProcessGroupGloo, manifest: Manifest, named_tensors: NamedTensors, limit: int) -> None:
    """Broadcasts the tensors bucket by bucket, packing one while the one before travels, then their checksums.

    Raises:
        RuntimeError: a receiver went away or was too slow.
    """
    tensors = iter(named_tensors)
    checksums = []
    travelling = None
    for cut in buckets(manifest.sizes, limit):
        bucket = [tensor for _, tensor in islice(tensors, cut.stop - cut.start)]
        checksums += [checksum(tensor) for tensor in bucket]
        packed = torch.cat([as_bytes(tensor).cpu() for tensor in bucket])
        if travelling:
            travelling.wait()
        travelling = group.broadcast(packed, 0)
    if travelling:
        travelling.wait()
    for _ in tensors:  # a source that checks what it yields finds out here that something is left over
        pass
    group.broadcast(torch.tensor(checksums, dtype=torch.int64), 0).wait()


def receive(group: dist.ProcessGroupGloo, manifest: Manifest, limit: int) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Yields the sender's named tensors, bucket by bucket, then compares their checksums with the sender's.

    The checksums prove that all bytes arrived: gloo accepts a broadcast that is shorter than expected in silence.
    The tensors may be kept: every bucket has memory of its own.

    Raises:
        RuntimeError: the sender went away or was too slow; or, after the last bucket, a checksum differs.
    """
    checksums = []
    for cut in buckets(manifest.sizes, limit):
        bucket = manifest.select(range(cut.start, cut.stop))
        packed = torch.zeros(bucket.bytes, dtype=torch.uint8)
        group.broadcast(packed, 0).wait()
        tensors = unpack(packed, bucket)
        checksums += [checksum(tensor) for _, tensor in tensors]
        yield tensors
    expected = torch.zeros(len(checksums), dtype=torch.int64)
    group.broadcast(expected, 0).wait()
    pairs = zip(manifest.names, checksums, expected.tolist(), strict=True)
    damaged = [name for name, actual, sent in pairs if actual != sent]
    if damaged:
        listed = ", ".join(damaged[:6])
        raise RuntimeError(f"weights arrived damaged: the checksums of {len(damaged)} tensors differ ({listed})")
