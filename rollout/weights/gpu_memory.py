"""Memory of one GPU that several processes share for a weight update (CUDA IPC), as `shared_memory` is of one machine.

The process that made it tells the others where it is, in words of a fixed length; whoever opens it holds the same
bytes. It is gone when the last of them has let it go.
"""

from __future__ import annotations

import hashlib
import json

import torch

NAME = 16
"""Bytes by which a physical GPU is told from any other."""
WORDS = 2048
"""Bytes that are told of a piece of memory."""


def name(device: torch.device) -> torch.Tensor:
    """uint8 (NAME,): the same for two processes exactly if they see one physical GPU."""
    known = str(torch.cuda.get_device_properties(device).uuid).encode()
    return torch.frombuffer(bytearray(hashlib.blake2b(known, digest_size=NAME).digest()), dtype=torch.uint8)


def made(device: torch.device, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for `size` bytes, and what the others need to know of it, uint8 (WORDS,). RuntimeError where the driver
    shares none."""
    memory = torch.empty(size, dtype=torch.uint8, device=device)
    _, *described = memory.untyped_storage()._share_cuda_()
    words = json.dumps([part.hex() if isinstance(part, bytes) else part for part in described]).encode()
    return memory, torch.frombuffer(bytearray(words.ljust(WORDS)), dtype=torch.uint8)


def opened(device: torch.device, words: torch.Tensor, size: int) -> torch.Tensor:
    """The same memory in another process. RuntimeError or ValueError where it cannot be had."""
    handle, stored, offset, counter, counter_offset, event, wait = json.loads(words.numpy().tobytes())
    index = torch.cuda.current_device() if device.index is None else device.index
    storage = torch.UntypedStorage._new_shared_cuda(
        index, bytes.fromhex(handle), stored, offset,
        bytes.fromhex(counter), counter_offset, bytes.fromhex(event), wait,
    )  # fmt: skip
    return torch.empty(0, dtype=torch.uint8, device=device).set_(storage)[:size]
