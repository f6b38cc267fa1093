"""Composites: several phenomena one after the other, y = A_n(... A_1(x)), quantised once, at the end.

The inverse is nested: from the last part back to the first, the picture before a part is what its `project` (or
`closed_form`) makes of the picture after it, given the noise that is left in that.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from envs.degradations import low_light
from envs.degradations.common import QUANTISATION


@dataclass(frozen=True)
class Composite:
    """The modules of its parts in physical order, used like one of them; `values` are those of all parts."""

    parts: tuple[ModuleType, ...]

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """x: (B, 3, H, W)."""
        for part in self.parts:
            x = part.degrade(x, values)
        return x

    def project(self, x0: Tensor, y: Tensor, noise_level: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Nested back-projection: the pictures on x0's way through the parts are corrected from the last one back."""
        way = [x0]
        for part in self.parts[:-1]:
            way.append(part.degrade(way[-1], values))
        noise = QUANTISATION
        for part, picture in zip(reversed(self.parts), reversed(way), strict=True):
            known, y = y, part.project(picture, y, noise_level, values, noise)
            noise = _passed_on(part, known, values, noise)
        return y

    def closed_form(self, y: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The closed forms of the parts, last part first."""
        noise = QUANTISATION
        for part in reversed(self.parts):
            known, y = y, part.closed_form(y, values, noise).clamp(0, 1)
            noise = _passed_on(part, known, values, noise)
        return y


def _passed_on(part: ModuleType, y: Tensor, values: dict[str, Tensor], noise: Tensor | float) -> Tensor | float:
    """Standard deviation of what is known of the picture before a part; low light amplifies, others hardly."""
    return low_light.input_noise(y, values, noise) if part is low_light else noise
