"""What carries the bytes of a weight update over gloo: memory that all share, of one GPU or of one machine, else the
network.

Rank 0 gives bucket after bucket (`put`, then `flush`), the others take them (`take`), all of them the same sizes. Steps
fail after the group's timeout, or when a member goes away.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from rollout.weights import gpu_memory, shared_memory

_CPU = torch.device("cpu")
KEPT = 3
"""Buffers that a receiver keeps for the next buckets."""


class Channel:
    """One end. `rounds` counts its collective calls: one a bucket, more for a bucket above `limit`."""

    def __init__(
        self, address: str, port: int, rank: int, world_size: int, timeout: float, limit: int, listen=None, device=_CPU
    ):
        """Joins the others; waits for them.

        Args:
            limit: bytes of a bucket that is no single larger tensor; the same everywhere.
            listen: rank 0's socket, already bound.
            device: where this end's tensors are. CPUs everywhere, or GPUs everywhere: where these are one and the
                same, buckets stay on it.

        Raises:
            RuntimeError, OSError: not all joined within `timeout` seconds.
        """
        from vllm.distributed.utils import stateless_init_torch_distributed_process_group

        self.group = stateless_init_torch_distributed_process_group(
            address, port, rank, world_size, "gloo", listen_socket=listen, timeout=timedelta(seconds=timeout)
        )
        self.rounds, self._limit, self._sender = 0, limit, rank == 0
        self._underway = None
        self._kept: list[torch.Tensor] = []
        self._place = device
        self._halves = self._meet_on_gpu() if device.type == "cuda" else None
        if self._halves is None:
            self._place = _CPU
            self._halves = self._meet(shared_memory.file(port))

    @property
    def shared(self) -> bool:
        """Whether buckets pass through shared memory."""
        return self._halves is not None

    def put(self, tensors: Sequence[torch.Tensor]) -> None:
        """Gives one bucket, and returns while it may still be on its way."""
        size, tensors = sum(tensor.numel() for tensor in tensors), [tensor.to(self._place) for tensor in tensors]
        if self._halves and size <= self._limit:  # packed where it is read
            torch.cat(tensors, out=self._free_half()[:size])
            self._announce()
            return
        packed = torch.cat(tensors, out=self._memory(size))
        if not self._halves:
            self._arrived()
            self._underway = self.group.broadcast(packed, 0)
            self.rounds += 1
            return
        for piece in packed.split(self._limit):
            self._free_half()[: len(piece)].copy_(piece)
            self._announce()

    def flush(self) -> None:
        """Returns when all have taken all but the last bucket, and that is theirs to take."""
        self._arrived()

    def take(self, size: int) -> torch.Tensor:
        """The next bucket, uint8 (size,). Its memory is used again when nobody holds a view of it."""
        packed = self._memory(size)
        if not self._halves:
            self.group.broadcast(packed, 0).wait()
            self.rounds += 1
            return packed
        for piece in packed.split(self._limit):
            half = self._free_half()
            self._announce()
            self._arrived()
            piece.copy_(half[: len(piece)])
            self._settle()  # before the next round says that the half is free
        return packed

    def tell(self, numbers: torch.Tensor) -> torch.Tensor:
        """Rank 0's `numbers`, which the others' are overwritten with."""
        self.group.broadcast(numbers, 0).wait()
        return numbers

    def _meet(self, file: Path) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Two halves of memory that every member sees, uint8 (limit,) each; None where one of them does not.

        The file has no name any more once all have opened it, or one went away: nothing is left over, however they end.
        """
        nonce, memory = torch.zeros(shared_memory.NONCE, dtype=torch.uint8), None
        if self._sender:
            nonce = torch.tensor(list(secrets.token_bytes(shared_memory.NONCE)), dtype=torch.uint8)
            with suppress(OSError):
                memory = shared_memory.made(file, nonce, 2 * self._limit)
        try:
            self.tell(nonce)
            if not self._sender:
                with suppress(OSError, ValueError):
                    memory = shared_memory.opened(file, nonce, 2 * self._limit)
            everywhere = self._agreed(memory is not None)
        finally:
            if self._sender and memory is not None:
                file.unlink(missing_ok=True)
        return memory.split(self._limit) if everywhere else None

    def _meet_on_gpu(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The same on the GPU that all of them have a share of; None where there are several."""
        mine = gpu_memory.name(self._place)
        if not self._agreed(torch.equal(self.tell(mine.clone()), mine)):
            return None
        words, memory = torch.zeros(gpu_memory.WORDS, dtype=torch.uint8), None
        with suppress(RuntimeError):
            if self._sender:
                memory, words = gpu_memory.made(self._place, 2 * self._limit)
        self.tell(words)
        with suppress(RuntimeError, ValueError):
            if not self._sender:
                memory = gpu_memory.opened(self._place, words, 2 * self._limit)
        return memory.split(self._limit) if self._agreed(memory is not None) else None

    def _agreed(self, here: bool) -> bool:
        """Whether it holds for every member."""
        everywhere = torch.tensor([here], dtype=torch.int64)
        self.group.allreduce([everywhere], dist.ReduceOp.MIN).wait()
        return bool(everywhere)

    def _free_half(self) -> torch.Tensor:
        """The half for the next piece. What was in it has been taken: rank 0 waits for that, the others have."""
        self._arrived()
        return self._halves[self.rounds % 2]

    def _announce(self) -> None:
        """Rank 0: a piece is there. The others: they have what came before it."""
        self._settle()
        self._underway = self.group.allreduce([torch.zeros(1)], dist.ReduceOp.SUM)
        self.rounds += 1

    def _arrived(self) -> None:
        if self._underway is not None:
            self._underway.wait()
        self._underway = None

    def _memory(self, size: int) -> torch.Tensor:
        """uint8 (size,) that nobody uses. What the system gives anew is several times slower to write than what was
        written before, so a few buffers are kept."""
        if size > self._limit:
            return torch.empty(size, dtype=torch.uint8, device=self._place)
        for buffer in self._kept:
            if _alone(buffer):
                return buffer[:size]
        self._kept = [*self._kept, torch.empty(self._limit, dtype=torch.uint8, device=self._place)][-KEPT:]
        return self._kept[-1][:size]

    def _settle(self) -> None:
        """Waits for copies on a GPU, which other processes would not know of."""
        if self._place.type == "cuda":
            torch.cuda.synchronize(self._place)


def _alone(buffer: torch.Tensor) -> bool:
    """Whether no other tensor is a view of the buffer: its storage has two references, one by the question."""
    return torch._C._storage_Use_Count(buffer.untyped_storage()._cdata) == 2
