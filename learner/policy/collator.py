"""Training examples, and how they become one padded batch of tensors.

A row of a batch is a prompt and, one after the other, completions of it, each of which sees the prompt and itself: so a
prompt is computed once for its group. Padding comes after everything a causal model looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from envs.observation import views
from learner.policy.pictures import Layout, Pictures, pictures_of
from rollout.vllm.prompting import prompt_text

if TYPE_CHECKING:  # seconds of imports, which the driver of a job can do without
    from transformers import PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class Example:
    """Holds a degraded image, uint8 (H, W, 3), and the token ids of its answer, end-of-turn token included.

    For calls of `learner.distributed.group.LearnerGroup`, `image` may be a Ray reference to a `Sample` instead.
    """

    image: np.ndarray
    completion: tuple[int, ...]
    views: Sequence[np.ndarray] | None = None  # of the image, uint8 (H, W, 3) each, where they are made already


@dataclass(frozen=True)
class Batch:
    """Holds B completions in R rows of at most L tokens, padded on the right, over N pictures (views) of images."""

    input_ids: torch.Tensor  # int64 (R, L)
    position_ids: torch.Tensor  # int64 (3, R, L): time, height and width of multimodal RoPE; (1, R, L) without
    attention: torch.Tensor | None  # bool (R, 1, L, L): which keys a query sees; None is all before it
    shown: Pictures  # the N pictures
    pictures: torch.Tensor  # int64 (R, views): which of the N pictures each row shows
    row: torch.Tensor  # int64 (B,): where each completion is
    before: torch.Tensor  # int64 (B, T): the place in its row of what precedes each of its tokens
    completion: torch.Tensor  # int64 (B, T), padded with 0
    mask: torch.Tensor  # float32 (B, T): 1 on the tokens of a completion, its end-of-turn token among them

    @property
    def pixel_values(self) -> torch.Tensor:
        """The pixels of the N pictures, as the vision tower takes them."""
        return self.shown.pixel_values

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch with all its tensors on `device`."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: None if part is None else part.to(device) for name, part in parts.items()})


@dataclass(frozen=True)
class Length:
    """Counts the tokens of an example; `image` tells images apart: neighbours of one image share their prompt."""

    image: object
    prompt: int
    completion: int


def token_batches(lengths: Sequence[Length], budget: int) -> Iterator[slice]:
    """Cuts examples into runs whose rows, padded to the longest, have at most `budget` tokens (a longer example goes
    alone)."""
    start = rows = row = longest = 0
    for i, length in enumerate(lengths):
        joins = i > start and length.image == lengths[i - 1].image
        grown = length.completion + (row if joins else length.prompt)
        if i > start and (rows + (not joins)) * max(longest, grown) > budget:
            yield slice(start, i)
            start, rows, longest = i, 0, 0
            joins = False
            grown = length.prompt + length.completion
        rows += not joins
        row = grown
        longest = max(longest, grown)
    if start < len(lengths):
        yield slice(start, len(lengths))


class Collator:
    """Turns examples into a `Batch`. The image processor runs once per batch, on each distinct image once."""

    def __init__(self, processor: ProcessorMixin, model: PreTrainedModel, view_names: Sequence[str]):
        """model: without its head; asked for positions only (`learner.policy.pictures`), never run."""
        self._pictures, self._views = pictures_of(processor, model), tuple(view_names)
        self._text = prompt_text(processor, len(self._views))
        self._layouts: dict[tuple, Layout] = {}
        self._prompt_lengths: dict[tuple[int, int], int] = {}  # tokens, by the size of an image

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Makes a batch; completions of one and the same image array share its pictures, neighbours a row."""
        images = {id(example.image): example for example in examples}
        place = {key: i for i, key in enumerate(images)}
        pictures = [view for e in images.values() for view in e.views or views(e.image, self._views)]
        shown = self._pictures.process(pictures)
        groups = [(key, [e.completion for e in group]) for key, group in groupby(examples, lambda e: id(e.image))]
        count = len(self._views)
        index = torch.tensor([[place[key] * count + v for v in range(count)] for key, _ in groups])
        return self.batch(shown, index, [group for _, group in groups])

    def length(self, example: Example) -> Length:
        """Counts the tokens of prompt (pictures included) and completion, without processing anything."""
        height, width = example.image.shape[:2]
        if (height, width) not in self._prompt_lengths:
            length = self._pictures.prompt_length(self._text, height, width, len(self._views))
            self._prompt_lengths[height, width] = length
        return Length(id(example.image), self._prompt_lengths[height, width], len(example.completion))

    def batch(self, shown: Pictures, pictures: torch.Tensor, groups: Sequence[Sequence[Sequence[int]]]) -> Batch:
        """Lays out rows over pictures already processed (fields of `Batch`), with the completions of each."""
        rows = [_row(self._layout(shown.shapes[each]), group) for each, group in zip(pictures, groups, strict=True)]
        completions = [completion for group in groups for completion in group]
        return Batch(
            input_ids=_padded([row.ids for row in rows]),
            position_ids=_padded([row.positions for row in rows]).permute(2, 0, 1).contiguous(),
            attention=_attention(rows) if len(completions) > len(rows) else None,
            shown=shown,
            pictures=pictures,
            row=torch.tensor([i for i, group in enumerate(groups) for _ in group]),
            before=_padded([before for row in rows for before in row.before]),
            completion=_padded([torch.tensor(completion) for completion in completions]),
            mask=_padded([torch.ones(len(completion)) for completion in completions]),
        )

    def _layout(self, shapes: torch.Tensor) -> Layout:
        """Lays out the prompt for one image's pictures, by their shapes."""
        key = tuple(shapes.flatten().tolist())
        if key not in self._layouts:
            self._layouts[key] = self._pictures.layout(self._text, shapes)
        return self._layouts[key]


@dataclass(frozen=True)
class _Row:
    """One row of L tokens, before padding."""

    ids: torch.Tensor  # int64 (L,)
    positions: torch.Tensor  # int64 (L, axes)
    member: torch.Tensor  # int64 (L,): which completion a token is of, counted from 1; 0 in the prompt
    before: list[torch.Tensor]  # for each completion int64 (tokens,): see `Batch.before`


def _row(layout: Layout, completions: Sequence[Sequence[int]]) -> _Row:
    prompt, counts = len(layout.ids), [len(completion) for completion in completions]
    steps = [torch.arange(count) for count in counts]
    begins = [prompt + sum(counts[:i]) for i in range(len(counts))]
    positions = layout.following + torch.cat(steps)
    return _Row(
        ids=torch.cat([layout.ids, *(torch.tensor(completion, dtype=torch.int64) for completion in completions)]),
        positions=torch.cat([layout.positions, positions.expand(len(layout.positions), -1)], 1).T,
        member=torch.repeat_interleave(torch.tensor([prompt, *counts])),
        before=[torch.where(step > 0, begin + step - 1, prompt - 1) for begin, step in zip(begins, steps, strict=True)],
    )


def _attention(rows: Sequence[_Row]) -> torch.Tensor:
    """bool (R, 1, L, L): a token sees, of what is before it, the prompt and its own completion."""
    member = pad_sequence([row.member for row in rows], batch_first=True, padding_value=-1)
    query, key = member[:, :, None], member[:, None, :]
    return (((key == 0) | (key == query)) & torch.ones(member.shape[1], member.shape[1]).tril().bool())[:, None]


def _padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(rows, batch_first=True)

