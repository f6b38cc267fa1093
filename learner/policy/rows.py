"""Rows of a batch: a prompt and, one after the other, the completions of it, computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True)
class Batch:
    """B completions in R rows of at most L tokens, padded on the right, over N pictures (views) of U unique images.

    A row is a prompt and, one after the other, completions of it, each of which sees the prompt and itself: a prompt
    is computed once for its group. Padding comes after everything a causal model looks at.
    """

    input_ids: torch.Tensor  # int64 (R, L)
    position_ids: torch.Tensor  # int64 (3, R, L): time, height and width of multimodal RoPE
    attention: torch.Tensor | None  # bool (R, 1, L, L): which keys a query sees; None is all before it
    pixel_values: torch.Tensor  # float32 (patches of N pictures, values of a patch)
    image_grid_thw: torch.Tensor  # int64 (N, 3)
    pictures: torch.Tensor  # int64 (R, views): which of the N pictures each row shows
    row: torch.Tensor  # int64 (B,): where each completion is
    before: torch.Tensor  # int64 (B, T): the place in its row of what precedes each of its tokens
    completion: torch.Tensor  # int64 (B, T), padded with 0
    mask: torch.Tensor  # float32 (B, T): 1 on the tokens of a completion, its end-of-turn token among them

    def to(self, device: torch.device | str) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: None if tensor is None else tensor.to(device) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Layout:
    """The prompt of images of one size: token ids (P,), RoPE positions (3, P), and the position after it."""

    ids: torch.Tensor
    positions: torch.Tensor
    following: int


@dataclass(frozen=True)
class Length:
    """Tokens of an example, and what tells its image apart: neighbours of one image share their prompt."""

    image: object
    prompt: int
    completion: int


def token_batches(lengths: Sequence[Length], budget: int) -> Iterator[slice]:
    """Cuts examples into runs: a run's rows, padded to the longest, have at most `budget` tokens (a longer example
    goes alone)."""
    start = rows = row = longest = 0
    for i, length in enumerate(lengths):
        joins = i > start and length.image == lengths[i - 1].image
        grown = length.completion + (row if joins else length.prompt)
        if i > start and (rows + (not joins)) * max(longest, grown) > budget:
            yield slice(start, i)
            start, rows, longest, joins, grown = i, 0, 0, False, length.prompt + length.completion
        rows, row, longest = rows + (not joins), grown, max(longest, grown)
    if start < len(lengths):
        yield slice(start, len(lengths))


@dataclass(frozen=True)
class Row:
    """ids, member (L,): tokens, and which completion each is of, counted from 1, 0 in the prompt; positions (L, 3);
    before: of each completion, (tokens,)."""

    ids: torch.Tensor
    positions: torch.Tensor
    member: torch.Tensor
    before: list[torch.Tensor]


def row_of(layout: Layout, completions: Sequence[Sequence[int]]) -> Row:
    prompt, counts = len(layout.ids), [len(completion) for completion in completions]
    steps = [torch.arange(count) for count in counts]
    begins = [prompt + sum(counts[:i]) for i in range(len(counts))]
    positions = layout.following + torch.cat(steps)
    return Row(
        ids=torch.cat([layout.ids, *(torch.tensor(completion, dtype=torch.int64) for completion in completions)]),
        positions=torch.cat([layout.positions, positions.expand(3, -1)], 1).T,
        member=torch.repeat_interleave(torch.tensor([prompt, *counts])),
        before=[torch.where(step > 0, begin + step - 1, prompt - 1) for begin, step in zip(begins, steps, strict=True)],
    )


def attention(rows: Sequence[Row]) -> torch.Tensor:
    """bool (R, 1, L, L): a token sees, of what is before it, the prompt and its own completion."""
    member = torch.nn.utils.rnn.pad_sequence([row.member for row in rows], batch_first=True, padding_value=-1)
    query, key = member[:, :, None], member[:, None, :]
    return (((key == 0) | (key == query)) & torch.ones(member.shape[1], member.shape[1]).tril().bool())[:, None]


def padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
