"""How weights travel from the learner to the engines: packed in buckets, broadcast to all engines at once.

The learner's first rank is rank 0 of the transfer group, the workers of the engines follow. On GPUs this is
vLLM's own `nccl` transfer; on CPUs the same protocol runs over gloo, or through memory that all share on one machine
(`rollout.channel`; receiver: `rollout.gloo_receiver`).
"""

from __future__ import annotations

import math
import socket
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from rollout.channel import Channel
from rollout.follow import follow_parent

BUCKET_BYTES = 256 * 2**20
"""Of a bucket, at most; measured faster than 16 and 64 MiB. A larger tensor is copied once more on either side."""
NamedTensors = Iterable[tuple[str, torch.Tensor]]


@dataclass(frozen=True)
class Endpoint:
    """Where the engines find the sender, and the size of its buckets.

    The receivers take the sender's word for it: gloo would not notice a bucket shorter than expected.
    """

    address: str
    port: int
    bucket_bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a transfer carries, in order: names as in the checkpoint, dtypes ("float32") and shapes.

    frozen: names of those that training never changes: they travel once, in the first transfer to an engine.
    """

    names: tuple[str, ...]
    dtype_names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    frozen: frozenset[str] = frozenset()

    @classmethod
    def of(cls, named_tensors: NamedTensors) -> Manifest:
        """Of tensors as they will be sent: whole ones, where the learner holds only parts (ZeRO-3)."""
        return cls(*zip(*(_row(name, tensor) for name, tensor in named_tensors), strict=True))

    def part(self, where: slice) -> Manifest:
        return Manifest(self.names[where], self.dtype_names[where], self.shapes[where])

    def changing(self) -> Manifest:
        """What a later transfer carries."""
        some = [i for i, name in enumerate(self.names) if name not in self.frozen]
        return Manifest(*(tuple(row[i] for i in some) for row in (self.names, self.dtype_names, self.shapes)))

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        rows = zip(self.dtype_names, self.shapes, strict=True)
        return [getattr(torch, dtype).itemsize * math.prod(shape) for dtype, shape in rows]

    @property
    def bytes(self) -> int:
        return sum(self.sizes)

    def check(self, policy_folder: str | Path) -> None:
        """The engines were loaded from `policy_folder`; what is sent must be exactly its tensors.

        Raises:
            ValueError: naming tensors that are missing, unknown or of another shape.
        """
        here, there = dict(zip(self.names, self.shapes, strict=True)), checkpoint_shapes(policy_folder)
        faults = [f"{name} is missing" for name in there if name not in here]
        faults += [f"{name} is unknown" for name in here if name not in there]
        both = [name for name in here if name in there and here[name] != there[name]]
        faults += [f"{name} has the shape {here[name]}, not {there[name]}" for name in both]
        if faults:
            some = "; ".join(faults[:6])
            raise ValueError(f"not the tensors of {policy_folder}: {some} ({len(faults)} faults in all)")


def checkpoint_shapes(policy_folder: str | Path) -> dict[str, tuple[int, ...]]:
    """{name: shape} of every tensor in the folder's safetensors files, from their headers."""
    from safetensors import safe_open

    shapes = {}
    for file in sorted(Path(policy_folder).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


def buckets(sizes: Sequence[int], limit: int) -> Iterator[slice]:
    """Cuts a sequence of tensors into runs of at most `limit` bytes (a larger tensor travels alone)."""
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            yield slice(start, i)
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's bytes, a uint8 vector on the CPU."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).cpu()


def unpack(packed: torch.Tensor, manifest: Manifest) -> list[tuple[str, torch.Tensor]]:
    """Tensors from their bytes, one after the other: views of `packed`, copied only where the bytes of a dtype are not
    aligned."""
    pieces, tensors = packed.split(manifest.sizes), []
    for name, dtype, shape, piece in zip(
        manifest.names, manifest.dtype_names, manifest.shapes, pieces, strict=True
    ):
        aligned = piece.storage_offset() % getattr(torch, dtype).itemsize == 0
        tensors.append((name, (piece if aligned else piece.clone()).view(getattr(torch, dtype)).view(shape)))
    return tensors


def checksum(tensor: torch.Tensor) -> int:
    """CRC-32 of a tensor's bytes."""
    return zlib.crc32(as_bytes(tensor).numpy())


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

    def __init__(self, backend: str, timeout: float = 300.0, bucket_bytes: int = BUCKET_BYTES):
        """backend: "gloo" or "nccl". timeout: seconds after which a step fails instead of hanging (gloo)."""
        self._backend, self._limit, self._timeout = backend, bucket_bytes, timeout
        self._socket = self._group = self._endpoint = None

    def bind(self, address: str) -> Endpoint:
        """Takes a free port on `address`, which the engines must reach, and leaves the old group."""
        self.close()
        self._socket = socket.create_server((address, 0))
        self._endpoint = Endpoint(address, self._socket.getsockname()[1], self._limit)
        return self._endpoint

    def open(self, world_size: int) -> None:
        """Waits until the world_size - 1 engine workers have joined; RuntimeError after `timeout` seconds."""
        listen, self._socket = self._socket, None
        address, port = self._endpoint.address, self._endpoint.port
        if self._backend == "gloo":
            try:
                self._group = Channel(address, port, 0, world_size, self._timeout, self._limit, listen)
            except (OSError, RuntimeError) as error:
                wait = f"{world_size - 1} engine workers did not all join within {self._timeout:g} s"
                raise RuntimeError(f"weight transfer at {address}:{port}: {wait}") from error
            return
        from vllm.distributed.weight_transfer.nccl_common import trainer_init

        listen.close()  # NCCL's store binds the port itself
        where = {"master_address": address, "master_port": port, "world_size": world_size}
        self._group = trainer_init(where)

    def send(self, manifest: Manifest, named_tensors: NamedTensors, whole: bool = False) -> int:
        """Broadcasts the tensors, which come in the manifest's order; `whole`: with their checksums, over gloo. Returns
        the bytes sent.

        Raises:
            ValueError: a tensor is not what the manifest announces.
            RuntimeError: an engine went away or was too slow. After any error the group is closed.
        """
        tensors, sums = _checked(manifest, named_tensors), []
        try:
            if self._backend == "gloo":
                self._send_gloo(manifest, _summed(tensors, sums) if whole else tensors)
                if whole:
                    self._group.tell(torch.tensor(sums, dtype=torch.int64))
            else:
                self._send_nccl(manifest, tensors)
            next(tensors, None)  # runs the check that nothing is left over
        except BaseException:
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


def register() -> None:
    """Makes the `gloo` transfer known to vLLM and ties an engine's process to its actor; the plug-in entry point of
    each of vLLM's processes."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory as Factory

    if "gloo" not in Factory._registry:  # plug-ins may be loaded twice in one process
        Factory.register_engine("gloo", "rollout.gloo_receiver", "GlooWeightTransferEngine")
        follow_parent()


def _row(name: str, tensor: torch.Tensor) -> tuple[str, str, tuple[int, ...]]:
    return name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)


def _summed(tensors: Iterator[torch.Tensor], sums: list[int]) -> Iterator[torch.Tensor]:
    for tensor in tensors:
        sums.append(checksum(tensor))
        yield tensor


def _checked(manifest: Manifest, named_tensors: NamedTensors) -> Iterator[torch.Tensor]:
    announced = zip(manifest.names, manifest.dtype_names, manifest.shapes, strict=True)
    for name, tensor in named_tensors:
        due = next(announced, None)
        if _row(name, tensor) != due:
            raise ValueError(f"the manifest announces {due}, the learner yields {_row(name, tensor)}")
        yield tensor
    if missing := next(announced, None):
        raise ValueError(f"the learner's tensors end before {missing[0]}")
