"""What a weight transfer carries, and its way into buckets and out of them. Pure functions."""

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
    """A tensor's bytes, a uint8 vector where the tensor is."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


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
    return zlib.crc32(as_bytes(tensor).cpu().numpy())


def checked(manifest: Manifest, named_tensors: NamedTensors) -> Iterator[torch.Tensor]:
    """The tensors, one after the other.

    Raises:
        ValueError: one is not what the manifest announces at its place, or they end too early.
    """
    announced = zip(manifest.names, manifest.dtype_names, manifest.shapes, strict=True)
    for name, tensor in named_tensors:
        due = next(announced, None)
        if _row(name, tensor) != due:
            raise ValueError(f"the manifest announces {due}, the learner yields {_row(name, tensor)}")
        yield tensor
    if missing := next(announced, None):
        raise ValueError(f"the learner's tensors end before {missing[0]}")


def _row(name: str, tensor: torch.Tensor) -> tuple[str, str, tuple[int, ...]]:
    return name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
