"""The optimiser's state on another number of ranks than wrote it.

ZeRO-1 and 2 flatten all parameters of a group, pad the end and give each rank an equal part. ZeRO-3 does that with each
parameter by itself, and a rank's tensor is its parts one after the other. Without ZeRO every rank has everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open


def read_share(
    folder: Path,
    index: int,
    size: int,
    zero: int,
    numels: Sequence[int] | None,
    rank: int,
    ranks: int,
    saved_ranks: int,
) -> dict[str, torch.Tensor]:
    """Reads the `index`-th weight of a rank and its moments from a checkpoint of `saved_ranks` ranks.

    Args:
        size: elements of the rank's weight.
        zero: ZeRO stage.
        numels: elements of the parameters in it, under ZeRO-3.
        rank, ranks: who reads, and how many there are now.

    Returns:
        {`weight` and the names of the moments: tensor}: flat, or with the shape they were saved in where the number of
        ranks is the same or there is no ZeRO; scalars, such as `step`, are those of rank 0.
    """
    same = saved_ranks == ranks
    sources = [rank] if same else [0] if zero == 0 else range(saved_ranks)
    parts = [_read(folder / f"rank-{source}.safetensors", index) for source in sources]
    if len(parts) == 1 and (same or zero == 0):
        return parts[0]
    return {
        name: first if first.numel() == 1 and not first.dim() else _share(
            [part[name].flatten() for part in parts], size, numels, rank, ranks
        )
        for name, first in parts[0].items()
    }  # fmt: skip


def _share(
    parts: Sequence[torch.Tensor], size: int, numels: Sequence[int] | None, rank: int, ranks: int
) -> torch.Tensor:
    """What `rank` of `ranks` holds of what the `parts` of all former ranks hold together."""
    if numels is None:
        return _slice(torch.cat(list(parts)), size, rank)
    begin, shares = 0, []
    for numel in numels:
        was, now = -(-numel // len(parts)), -(-numel // ranks)
        whole = torch.cat([part[begin : begin + was] for part in parts])
        shares.append(_slice(whole[:numel], now, rank))
        begin += was
    return torch.cat(shares)


def _slice(whole: torch.Tensor, size: int, rank: int) -> torch.Tensor:
    """The `rank`-th of equal parts; beyond the end, padding with zeros."""
    part = whole[rank * size : (rank + 1) * size]
    return torch.cat([part, part.new_zeros(size - len(part))])


def _read(file: Path, index: int) -> dict[str, torch.Tensor]:
    with safe_open(file, "pt") as tensors:
        names = [name for name in tensors.keys() if name.endswith(f".{index}")]  # noqa: SIM118 (no mapping)
        return {name.rpartition(".")[0]: tensors.get_tensor(name) for name in names}
