"""Counts what a Qwen3-VL of given widths and depths consists of: parameters, cache of keys and values, activations.

Pure arithmetic on the published architecture: a plan is printed before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PolicyShape:
    """Gives the widths and depths of a Qwen3-VL; the defaults are those of Qwen3-VL-8B as published.

    queries, keys: channels of all query heads, and of all key heads, of a text layer. deepstack: layers of the vision
    tower whose features are added to text layers. merge: patches a side that become one token.
    """

    name: str = "Qwen3-VL-8B as published"
    vocabulary: int = 151_936
    tied: bool = False
    hidden: int = 4096
    layers: int = 36
    queries: int = 4096
    keys: int = 1024
    head: int = 128
    intermediate: int = 12_288
    vision_depth: int = 27
    vision_hidden: int = 1152
    vision_intermediate: int = 4304
    patch: int = 16
    merge: int = 2
    temporal: int = 2
    positions: int = 2304
    deepstack: int = 3

    @property
    def text_parameters(self) -> int:
        attention = self.hidden * (2 * self.queries + 2 * self.keys) + 2 * self.head
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.table * (1 if self.tied else 2) + self.layers * layer + self.hidden

    @property
    def vision_parameters(self) -> int:
        width, inner, merged = self.vision_hidden, self.vision_intermediate, self.vision_hidden * self.merge**2
        block = 4 * width * width + 4 * width + 2 * width * inner + inner + width + 4 * width
        merger = merged * merged + merged + merged * self.hidden + self.hidden
        mergers = (1 + self.deepstack) * merger + 2 * width + self.deepstack * 2 * merged
        patches = self.patch_values * width + width + self.positions * width
        return patches + self.vision_depth * block + mergers

    @property
    def parameters(self) -> int:
        return self.text_parameters + self.vision_parameters

    @property
    def table(self) -> int:
        """Elements of an embedding table."""
        return self.vocabulary * self.hidden

    @property
    def patch_values(self) -> int:
        return 3 * self.temporal * self.patch**2

    def patches(self, size: int) -> int:
        """Counts the patches of a picture of `size` px a side; four of them are a token."""
        return (size // self.patch) ** 2

    def prompt(self, size: int, views: int, text: int = 60) -> int:
        """Estimates the tokens of a prompt: those of its pictures and about `text` of words."""
        return views * self.patches(size) // self.merge**2 + text

    def cache_bytes(self, width: int = 2) -> int:
        """Counts the bytes of keys and values that a token leaves in an engine's cache."""
        return 2 * self.layers * self.keys * width

    def text_activations(self, length: int, width: int) -> int:
        """Counts the bytes that a token leaves for the backward pass.

        Args:
            length: tokens of a row with an attention mask, for which keys are copied for every query head; 0: no mask.
            width: bytes of an element; norms compute in float32 in either case.
        """
        norm, head_norm = (12, 8) if width == 4 else (8, 6)
        copies = 4 * self.queries + length if length else 2 * (self.queries + self.keys)
        attention = head_norm * (self.queries + self.keys) + width * copies
        layer = 2 * norm * self.hidden + attention + 4 * width * self.intermediate
        return self.layers * layer + head_norm * self.hidden

    def vision_activations(self, width: int) -> int:
        """Counts the bytes that a patch leaves for the backward pass."""
        block = width * (11 * self.vision_hidden + 2 * self.vision_intermediate) + 32
        return self.vision_depth * block + 3 * width * (1 + self.deepstack) * self.vision_hidden + 4 * self.patch_values

    def checkpointed(self, length: int, width: int) -> tuple[int, int]:
        """Counts the same of a token and of a patch where activations are computed twice: the inputs of all layers,
        and all that one layer leaves."""
        token = width * self.layers * self.hidden + self.text_activations(length, width) // self.layers
        patch = width * self.vision_depth * self.vision_hidden + self.vision_activations(width) // self.vision_depth
        return token, patch


PUBLISHED = PolicyShape()
