"""Training examples, and how they become one padded batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch

from envs.observation import views
from learner.policy.rows import Batch, Layout, Length, attention, padded, row_of
from rollout.vllm.prompting import prompt_text

if TYPE_CHECKING:  # seconds of imports, which the driver of a job can do without
    from transformers import Qwen3VLProcessor
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel


@dataclass(frozen=True)
class Example:
    """A degraded image, uint8 (H, W, 3), and the token ids of its answer, end-of-turn token included.

    For calls of `learner.distributed.group.Learner`, `image` may be a Ray reference to a `Sample` instead.
    """

    image: np.ndarray
    completion: tuple[int, ...]


class Collator:
    """Examples -> `Batch`. The image processor runs once per batch, on each distinct image once."""

    def __init__(self, processor: Qwen3VLProcessor, model: Qwen3VLModel, view_names: Sequence[str]):
        """model: asked for RoPE positions only (`get_rope_index`), never run."""
        self._processor, self._model, self._views = processor, model, tuple(view_names)
        self._text = prompt_text(processor, len(self._views))
        self._layouts: dict[tuple, Layout] = {}
        self._prompts: dict[tuple[int, int], int] = {}  # tokens, by the size of an image

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Completions of one and the same image array share its pictures, neighbours among them a row."""
        images = {id(example.image): example.image for example in examples}
        seen = {key: i for i, key in enumerate(images)}
        pictures = [_channels_first(view) for image in images.values() for view in views(image, self._views)]
        shown = self._processor.image_processor(images=pictures, return_tensors="pt")
        groups = [(key, [e.completion for e in group]) for key, group in groupby(examples, lambda e: id(e.image))]
        count = len(self._views)
        index = torch.tensor([[seen[key] * count + v for v in range(count)] for key, _ in groups])
        return self.batch(shown["pixel_values"], shown["image_grid_thw"], index, [group for _, group in groups])

    def length(self, example: Example) -> Length:
        """Tokens of prompt (pictures included) and completion, without processing anything."""
        height, width = example.image.shape[:2]
        if (height, width) not in self._prompts:
            vision, count = self._processor.image_processor, len(self._views)
            pads = vision.get_number_of_image_patches(height, width, {}) // vision.merge_size**2
            text = self._processor.tokenizer(self._text, add_special_tokens=False)["input_ids"]
            self._prompts[height, width] = len(text) + count * (pads - 1)  # the text has one each
        return Length(id(example.image), self._prompts[height, width], len(example.completion))

    def batch(
        self,
        pixels: torch.Tensor,
        grid: torch.Tensor,
        pictures: torch.Tensor,
        groups: Sequence[Sequence[Sequence[int]]],
    ) -> Batch:
        """Rows over pictures already processed (fields of `Batch`): the completions of each."""
        rows = [row_of(self._layout(grid[shown]), group) for shown, group in zip(pictures, groups, strict=True)]
        completions = [completion for group in groups for completion in group]
        return Batch(
            input_ids=padded([row.ids for row in rows]),
            position_ids=padded([row.positions for row in rows]).permute(2, 0, 1).contiguous(),
            attention=attention(rows) if len(completions) > len(rows) else None,
            pixel_values=pixels,
            image_grid_thw=grid,
            pictures=pictures,
            row=torch.tensor([i for i, group in enumerate(groups) for _ in group]),
            before=padded([place for row in rows for place in row.before]),
            completion=padded([torch.tensor(completion) for completion in completions]),
            mask=padded([torch.ones(len(completion)) for completion in completions]),
        )

    def _layout(self, grid: torch.Tensor) -> Layout:
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
            self._layouts[key] = Layout(ids, positions[:, 0], int(positions.max()) + 1)
        return self._layouts[key]


def _channels_first(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
