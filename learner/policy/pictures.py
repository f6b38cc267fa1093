"""How the pictures of a prompt become tokens, and which positions those have: what differs between families of models.

Everything else of a policy is the same for every image-text model of transformers: vision features go in by
`mm_encoder_outputs`, a prompt sees what is before it, and answers are tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Layout:
    """Holds the prompt of images of one size: token ids (P,), positions (axes, P), and the position after it."""

    ids: torch.Tensor
    positions: torch.Tensor
    following: int


@dataclass(frozen=True)
class Pictures:
    """Holds N pictures as a vision tower takes them.

    pixel_values: float32, as the model's image processor makes them.
    shapes: int64 (N, 3), the grids of their patches, or (N, 2), their heights and widths in pixels: what their tokens
        depend on.
    vision: what the tower takes beside the pixels, by name.
    """

    pixel_values: torch.Tensor
    shapes: torch.Tensor
    vision: dict[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Pictures:
        """Returns the pictures with all their tensors on `device`."""
        beside = {name: tensor.to(device) for name, tensor in self.vision.items()}
        return Pictures(self.pixel_values.to(device), self.shapes.to(device), beside)


class GridPictures:
    """Qwen2-VL and what came of it: a picture is a grid of patches, and its tokens have a time, a height and a width.

    axes: numbers that a position has.
    """

    axes = 3

    def __init__(self, processor, model):
        self._processor, self._model = processor, model

    def process(self, pictures: Sequence[np.ndarray]) -> Pictures:
        """Takes uint8 (H, W, 3) each."""
        processed = self._processor.image_processor(images=_channels_first(pictures), return_tensors="pt")
        grid = processed["image_grid_thw"]
        return Pictures(processed["pixel_values"], grid, {"image_grid_thw": grid})

    def prompt_length(self, text: str, height: int, width: int, count: int) -> int:
        """Counts the tokens of a prompt with `count` pictures of one size, without processing any."""
        vision = self._processor.image_processor
        pads = vision.get_number_of_image_patches(height, width, {}) // vision.merge_size**2
        return len(self._ids(text)) + count * (pads - 1)  # the text has one each

    def layout(self, text: str, shapes: torch.Tensor) -> Layout:
        """Lays out the prompt for one image's pictures, shapes int64 (views, 3)."""
        merged = shapes.prod(-1) // self._processor.image_processor.merge_size**2
        head, *rest = text.split(self._processor.image_token)
        pads = [self._processor.image_token * int(count) for count in merged]
        ids = torch.tensor(self._ids(head + "".join(pad + part for pad, part in zip(pads, rest, strict=True))))
        kinds = (ids == self._processor.image_token_id).int()
        positions, _ = self._model.get_rope_index(ids[None], kinds[None], image_grid_thw=shapes)
        return Layout(ids, positions[:, 0], int(positions.max()) + 1)

    def _ids(self, text: str) -> list[int]:
        return self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]


class LinePictures:
    """Every other model: the tokens of a picture are counted on like those of text."""

    axes = 1

    def __init__(self, processor, model):
        self._processor = processor
        self._taken = set(inspect.signature(model.get_image_features).parameters)

    def process(self, pictures: Sequence[np.ndarray]) -> Pictures:
        """Takes uint8 (H, W, 3) each."""
        processed = self._processor.image_processor(images=_channels_first(pictures), return_tensors="pt")
        beside = {name: processed[name] for name in processed if name in self._taken - {"pixel_values"}}
        return Pictures(processed["pixel_values"], torch.tensor([picture.shape[:2] for picture in pictures]), beside)

    def prompt_length(self, text: str, height: int, width: int, count: int) -> int:
        """Counts the tokens of a prompt with `count` pictures of one size."""
        return len(self.layout(text, torch.tensor([[height, width]] * count)).ids)

    def layout(self, text: str, shapes: torch.Tensor) -> Layout:
        """Lays out the prompt for one image's pictures, shapes int64 (views, 2), as the processor itself does."""
        blank = [np.zeros((*size, 3), np.uint8) for size in shapes.tolist()]
        ids = self._processor(text=[text], images=_channels_first(blank), return_tensors="pt")["input_ids"][0]
        return Layout(ids, torch.arange(len(ids))[None], len(ids))


def pictures_of(processor, model) -> GridPictures | LinePictures:
    """Chooses how the pictures of a model (the part without the head) become tokens."""
    return (GridPictures if hasattr(model, "get_rope_index") else LinePictures)(processor, model)


def obstacle(model) -> str:
    """Says why a model of transformers cannot be trained here; empty where nothing is known to be in the way."""
    base, text = model.base_model, model.config.get_text_config()
    taken = inspect.signature(base.forward).parameters if hasattr(base, "get_image_features") else {}
    if "mm_encoder_outputs" not in taken:
        return "it does not take vision features that are computed once for a group (mm_encoder_outputs)"
    if "token_type_ids" in taken:
        return "its prompts see what comes after them (token_type_ids), so the answers of a group cannot share one"
    if "mrope_section" in (getattr(text, "rope_parameters", None) or {}) and not hasattr(base, "get_rope_index"):
        return "its positions have several axes and no get_rope_index says which"
    return ""


def _channels_first(pictures: Sequence[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))) for picture in pictures]
