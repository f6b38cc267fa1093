r"""Composites: several phenomena one after the other, :math:`y = Q(A_n(\dots A_1(x)))`, quantised once, at the end.

The inverse is nested: from the last part back to the first, the picture before a part is what its `project` (or
`closed_form`) makes of the picture after it, given the noise that is left in that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.degradations.base import Operator, Phenomenon
from envs.degradations.common import QUANTISATION, Tensor


@dataclass(frozen=True)
class Composite(Operator):
    """Chains the operators of its parts, in physical order; `values` are those of all parts."""

    parts: tuple[Operator, ...]

    @classmethod
    def of(cls, phenomena: Sequence[Phenomenon]) -> Composite:
        """Chains phenomena, two neighbours as one operator where they have one (`Phenomenon.joint_with`)."""
        parts: list[Operator] = []
        for before, part in zip([None, *phenomena], phenomena, strict=False):
            joint = part.joint_with(before.name) if before else None
            parts = [*parts[:-1], joint] if joint else [*parts, part]
        return cls(tuple(parts))

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        for part in self.parts:
            x = part.degrade(x, values)
        return x

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        """Corrects the pictures on x0's way through the parts, from the last one back."""
        way = [x0]
        for part in self.parts[:-1]:
            way.append(part.degrade(way[-1], values))
        for part, picture in zip(reversed(self.parts), reversed(way), strict=True):
            known, y = y, part.project(picture, y, noise_level, values, sigma_y)
            sigma_y = part.input_noise(known, values, sigma_y)
        return y

    def estimate_noise(self, y: Tensor, values: dict[str, Tensor]) -> Tensor:
        return self.parts[-1].estimate_noise(y, values)

    def fits(self, picture, degradation) -> bool:
        return self.parts[-1].fits(picture, degradation)

    def padding(self, picture, degradation) -> tuple[tuple[int, int], tuple[int, int]]:
        return self.parts[-1].padding(picture, degradation)

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        """Takes the closed forms of the parts, last part first."""
        for part in reversed(self.parts):
            known, y = y, part.closed_form(y, values, sigma_y).clamp(0, 1)
            sigma_y = part.input_noise(known, values, sigma_y)
        return y


class Identity(Operator):
    """Leaves a picture with nothing wrong as it is, on both ways."""

    has_null_space = False

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return x

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        return y

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        return y
