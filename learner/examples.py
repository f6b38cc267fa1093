"""Training examples, and how they become one padded batch of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import Qwen3VLProcessor
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from envs.observation import views
from rollout.prompting import prompt_text


@dataclass(frozen=True)
class Example:
    """A degraded image, uint8 (H, W, 3), and the token ids of its answer, end-of-turn token included.

    For calls of `learner.ranks.Learner`, `image` may be a Ray reference to a `Sample` instead.
    """

    image: np.ndarray
    completion: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """B sequences of at most L tokens, padded on the right, over N pictures (views) of U unique images.

    Padding comes after everything a causal model looks at, so no attention mask is needed.
    """

    input_ids: torch.Tensor  # int64 (B, L)
    position_ids: torch.Tensor  # int64 (3, B, L): time, height and width of multimodal RoPE
    pixel_values: torch.Tensor  # float32 (patches of N pictures, values of a patch)
    image_grid_thw: torch.Tensor  # int64 (N, 3)
    pictures: torch.Tensor  # int64 (B, views): which of the N pictures each sequence shows
    start: torch.Tensor  # int64 (B,): length of the prompt
    completion: torch.Tensor  # int64 (B, T), padded with 0
    mask: torch.Tensor  # float32 (B, T): 1 on the tokens of a completion, its end-of-turn token among them

    def to(self, device: torch.device | str) -> Batch:
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class _Layout:
    """The prompt of images of one size: token ids (P,), RoPE positions (3, P), and the position after it."""

    ids: torch.Tensor
    positions: torch.Tensor
    following: int


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Cuts sequences of `lengths` tokens into runs: a run padded to its longest has at most `budget` tokens (a longer
    sequence goes alone)."""
    start = longest = 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and (i + 1 - start) * longest > budget:
            yield slice(start, i)
            start, longest = i, length
    if start < len(lengths):
        yield slice(start, len(lengths))


class Collator:
    """Examples -> `Batch`. The image processor runs once per batch, on each distinct image once."""

    def __init__(self, processor: Qwen3VLProcessor, model: Qwen3VLModel, view_names: Sequence[str]):
        """model: asked for RoPE positions only (`get_rope_index`), never run."""
        self._processor, self._model, self._views = processor, model, tuple(view_names)
        self._text = prompt_text(processor, len(self._views))
        self._layouts: dict[tuple, _Layout] = {}
        self._prompts: dict[tuple[int, int], int] = {}  # tokens, by the size of an image

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Completions of one and the same image array share its pictures: one pass of the vision tower."""
        images = {id(example.image): example.image for example in examples}
        row = {key: i for i, key in enumerate(images)}
        pictures = [_channels_first(view) for image in images.values() for view in views(image, self._views)]
        seen = self._processor.image_processor(images=pictures, return_tensors="pt")
        count = len(self._views)
        index = torch.tensor([[row[id(e.image)] * count + v for v in range(count)] for e in examples])
        return self.batch(
            seen["pixel_values"], seen["image_grid_thw"], index, [e.completion for e in examples]
        )

    def length(self, example: Example) -> int:
        """Tokens of prompt, pictures and completion, without processing anything."""
        height, width = example.image.shape[:2]
        if (height, width) not in self._prompts:
            vision, count = self._processor.image_processor, len(self._views)
            pads = vision.get_number_of_image_patches(height, width, {}) // vision.merge_size**2
            text = self._processor.tokenizer(self._text, add_special_tokens=False)["input_ids"]
            self._prompts[height, width] = len(text) + count * (pads - 1)  # the text has one each
        return self._prompts[height, width] + len(example.completion)

    def batch(
        self,
        pixels: torch.Tensor,
        grid: torch.Tensor,
        pictures: torch.Tensor,
        completions: Sequence[Sequence[int]],
    ) -> Batch:
        """Prompts and completions over pictures already processed (fields of `Batch`)."""
        layouts = [self._layout(grid[shown]) for shown in pictures]
        return Batch(
            *_sequences(layouts, completions),
            pixel_values=pixels,
            image_grid_thw=grid,
            pictures=pictures,
            start=torch.tensor([len(layout.ids) for layout in layouts]),
            completion=_padded([torch.tensor(completion) for completion in completions]),
            mask=_padded([torch.ones(len(completion)) for completion in completions]),
        )

    def _layout(self, grid: torch.Tensor) -> _Layout:
        """The prompt for one image's pictures, grid int64 (views, 3)."""
        key = tuple(grid.flatten().tolist())
        if key not in self._layouts:
            merged = grid.prod(-1) // self._processor.image_processor.merge_size**2
            head, *rest = self._text.split(self._processor.image_token)
            pads = [self._processor.image_token * int(count) for count in merged]
            text = head + "".join(pad + part for pad, part in zip(pads, rest, strict=True))
            ids = torch.tensor(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])
            kinds = (ids == self._processor.image_token_id).int()
            positions, _ = self._model.get_rope_index(ids[None], kinds[None], image_grid_thw=grid)
            self._layouts[key] = _Layout(ids, positions[:, 0], int(positions.max()) + 1)
        return self._layouts[key]


def _sequences(
    layouts: Sequence[_Layout], completions: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    ids, positions = [], []
    for layout, completion in zip(layouts, completions, strict=True):
        ids.append(torch.cat([layout.ids, torch.tensor(completion, dtype=torch.int64)]))
        after = layout.following + torch.arange(len(completion))
        positions.append(torch.cat([layout.positions, after.expand(3, -1)], 1).T)
    return _padded(ids), _padded(positions).permute(2, 0, 1).contiguous()


def _padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _channels_first(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
