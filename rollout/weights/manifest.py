"""Describes what a weight transfer carries, and cuts it into buckets and back. Pure functions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

NamedTensors = Iterable[tuple[str, torch.Tensor]]


@dataclass(frozen=True)
class Manifest:
    """Lists the tensors of a transfer, in the order in which they travel.

    Args:
        names: names as in the checkpoint.
        dtype_names: torch's names of the dtypes, such as "float32".
        shapes: shapes of the whole tensors.
        frozen: names of tensors that training never changes; they travel only in the first transfer to an engine.
    """

    names: tuple[str, ...]
    dtype_names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    frozen: frozenset[str] = frozenset()

    @classmethod
    def of(cls, named_tensors: NamedTensors) -> Manifest:
        """Describes tensors as they will be sent: whole, also where the learner holds only shards (ZeRO-3)."""
        return cls(*zip(*(_row(name, tensor) for name, tensor in named_tensors), strict=True))

    def select(self, indices: Iterable[int]) -> Manifest:
        """Returns the manifest of the tensors at `indices` alone."""
        indices = list(indices)
        return Manifest(*(tuple(row[i] for i in indices) for row in (self.names, self.dtype_names, self.shapes)))

    def changing(self) -> Manifest:
        """Returns what a later transfer carries: everything that is not frozen."""
        return self.select(i for i, name in enumerate(self.names) if name not in self.frozen)

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        rows = zip(self.dtype_names, self.shapes, strict=True)
        return [getattr(torch, dtype).itemsize * math.prod(shape) for dtype, shape in rows]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self.sizes)

    def check(self, policy_folder: str | Path) -> None:
        """Compares the tensors with those of `policy_folder`, from which the engines were loaded.

        Raises:
            ValueError: naming tensors that are missing, unknown or of another shape.
        """
        given = dict(zip(self.names, self.shapes, strict=True))
        expected = checkpoint_shapes(policy_folder)
        faults = [f"{name} is missing" for name in expected if name not in given]
        faults += [f"{name} is unknown" for name in given if name not in expected]
        for name, shape in given.items():
            if name in expected and shape != expected[name]:
                faults.append(f"{name} has the shape {shape}, not {expected[name]}")
        if faults:
            listed = "; ".join(faults[:6])
            raise ValueError(f"not the tensors of {policy_folder}: {listed} ({len(faults)} faults in all)")


def checkpoint_shapes(policy_folder: str | Path) -> dict[str, tuple[int, ...]]:
    """Reads {name: shape} of every tensor in the folder's safetensors files, from their headers alone."""
    from safetensors import safe_open

    shapes = {}
    for file in sorted(Path(policy_folder).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


def buckets(sizes: Sequence[int], limit: int) -> Iterator[slice]:
    """Cuts a sequence of tensors, given by their sizes in bytes, into runs of at most `limit` bytes.

    A tensor larger than the limit is a run of its own.
    """
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            yield slice(start, i)
            start = i
            total = 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Views a tensor's bytes as a uint8 vector on the same device."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def unpack(packed: torch.Tensor, manifest: Manifest) -> list[tuple[str, torch.Tensor]]:
    """Takes named tensors out of their packed bytes, uint8 (manifest.bytes,).

    They are views of `packed`, copied only where the bytes of a dtype are not aligned.
    """
    tensors = []
    pieces = packed.split(manifest.sizes)
    for name, dtype_name, shape, piece in zip(
        manifest.names, manifest.dtype_names, manifest.shapes, pieces, strict=True
    ):
        dtype = getattr(torch, dtype_name)
        aligned = piece.storage_offset() % dtype.itemsize == 0
        tensors.append((name, (piece if aligned else piece.clone()).view(dtype).view(shape)))
    return tensors


def checksum(tensor: torch.Tensor) -> int:
    """Computes the CRC-32 of a tensor's bytes."""
    return zlib.crc32(as_bytes(tensor).cpu().numpy())


def checked(manifest: Manifest, named_tensors: NamedTensors) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the named tensors while it compares each with what the manifest announces at its place.

    Raises:
        ValueError: a tensor is not the announced one, or they end too early.
    """
    announced = zip(manifest.names, manifest.dtype_names, manifest.shapes, strict=True)
    for name, tensor in named_tensors:
        expected = next(announced, None)
        if _row(name, tensor) != expected:
            raise ValueError(f"the manifest announces {expected}, the learner yields {_row(name, tensor)}")
        yield name, tensor
    if missing := next(announced, None):
        raise ValueError(f"the learner's tensors end before {missing[0]}")


def _row(name: str, tensor: torch.Tensor) -> tuple[str, str, tuple[int, ...]]:
    return name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
