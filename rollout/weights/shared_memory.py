"""Memory that processes of one machine share for a weight update: a file without a name, once all have opened it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import torch

NONCE = 16
"""Bytes at the head of the file by which it is told from that of another machine."""


def file(port: int) -> Path:
    """Where those look for it who know the port of the transfer."""
    return Path("/dev/shm") / f"duvlm-weights-{port}"


def made(file: Path, nonce: torch.Tensor, size: int) -> torch.Tensor:
    """Shared memory for `size` bytes, all of it there: what a small /dev/shm lacks must be known before it is
    written. OSError where it lacks."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, NONCE + size)
        return _mapped(descriptor, nonce, size)
    except OSError:
        file.unlink()
        raise
    finally:
        os.close(descriptor)


def opened(file: Path, nonce: torch.Tensor, size: int) -> torch.Tensor:
    """The same memory in another process. OSError where there is none, ValueError where it is another's."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        if os.pread(descriptor, NONCE, 0) != nonce.numpy().tobytes():
            raise ValueError(f"{file} is not this transfer's")
        return _mapped(descriptor, nonce, size)
    finally:
        os.close(descriptor)


def _mapped(descriptor: int, nonce: torch.Tensor, size: int) -> torch.Tensor:
    memory = torch.frombuffer(mmap.mmap(descriptor, NONCE + size), dtype=torch.uint8)
    memory[:NONCE] = nonce
    return memory[NONCE:]
