"""What one file of this folder declares about a physical phenomenon; the rest of the code asks, and names none."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from envs.degradations.common import QUANTISATION, Tensor, as_batch, as_picture, detail_noise, stack

if TYPE_CHECKING:
    from configs.schema import World
    from envs.taxonomy import Degradation, DegradationType

Values: TypeAlias = "dict[str, Tensor]"  # float32 (B, *key shape) of each key
Noise: TypeAlias = "Tensor | float"  # one standard deviation for all, or (B, 1, 1, 1)
Value = float | tuple  # a number, or nested tuples of numbers for vector and grid keys


class Place(IntEnum):
    """Orders phenomena along the way of the light; the parts of a composite are applied in this order."""

    AIR = 10
    LENS = 20
    SENSOR = 30
    READOUT = 35
    STORAGE = 40
    FILE = 50


@dataclass(frozen=True)
class Key:
    """Describes one physical parameter: `low <= value <= high` in steps of `step`.

    shape: of one value; () is a scalar.
    in_pixels: it counts pixels, so it grows with the resolution of the picture.
    over_picture: its entries are laid out over the picture, so they move when the picture is mirrored.
    period: where it is a direction, the value after which it begins again; else 0.
    """

    name: str
    unit: str
    low: float
    high: float
    step: float
    shape: tuple[int, ...] = ()
    in_pixels: bool = False
    over_picture: bool = False
    period: float = 0.0

    @cached_property
    def bins(self) -> int:
        return math.floor((self.high - self.low) / self.step + 1e-6) + 1

    @property
    def size(self) -> int:
        """Numbers in one value."""
        return math.prod(self.shape)

    @property
    def is_class(self) -> bool:
        """Whether the key counts: steps of 1 or more, so that a number between two grid points means nothing."""
        return self.step >= 1

    @cached_property
    def decimals(self) -> int:
        """Digits after the point that write every grid number exactly; at most 6."""
        exact = (d for d in range(6) if all(abs(n * 10**d - round(n * 10**d)) < 1e-6 for n in (self.low, self.step)))
        return next(exact, 6)

    def snap(self, number: float) -> float:
        """Returns the nearest grid point, clipped to the range."""
        index = round((min(max(number, self.low), self.high) - self.low) / self.step)
        return round(self.low + min(index, self.bins - 1) * self.step, self.decimals)

    def token(self, number: float) -> str:
        """Returns the value token of one number after snapping, for example `[V-0.63]`."""
        return self.token_of(self.snap(number))

    def token_of(self, number: float) -> str:
        """Returns the value token of a number that is on the grid already."""
        return f"[V-{number:.{self.decimals}f}]"

    def grid(self) -> Iterator[float]:
        return (round(self.low + i * self.step, self.decimals) for i in range(self.bins))


def flatten(value: Value | Sequence) -> Iterator[float]:
    """Yields the numbers of a value, nested or not, row by row."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from flatten(item)
    else:
        yield value


@dataclass(frozen=True)
class Severity:
    """Says how bad a phenomenon is by the mean of one key: mild, from `moderate` on moderate, from `severe` on severe.

    severe below moderate means that low values are the bad ones.
    thirds: the same two limits for its `Phenomenon.effect`, such that a third of the samples drawn for a single
    degradation by the law of the paper's world has each word; by default those of the key.
    """

    key: str
    moderate: float
    severe: float
    thirds: tuple[float, float] | None = None

    def level(self, value: Value) -> int:
        """Returns 0, 1 or 2 for mild, moderate or severe, by the key."""
        return _level(mean_of(value), self.moderate, self.severe)

    def level_of_effect(self, effect: float) -> int:
        """Returns the same by the effect."""
        return _level(effect, *(self.thirds or (self.moderate, self.severe)))


def mean_of(value: Value) -> float:
    """Averages the numbers of a value."""
    numbers = list(flatten(value))
    return sum(numbers) / len(numbers)


def _level(number: float, moderate: float, severe: float) -> int:
    sign = 1 if severe > moderate else -1
    return (sign * number >= sign * moderate) + (sign * number >= sign * severe)


class Operator(ABC):
    r"""A degradation :math:`y = A(x)` and the ways back, for batches that share one type.

    Images are float32 (B, 3, H, W) in [0, 1]; `values` holds float32 (B, \*key shape) of each key.
    """

    has_null_space: bool = True
    """False where the data fix every pixel: the closed form leaves nothing for a prior to add."""

    @abstractmethod
    def degrade(self, x: Tensor, values: Values) -> Tensor:
        """Applies the forward model, before rounding to 8 bits."""

    @abstractmethod
    def project(
        self, x0: Tensor, y: Tensor, noise_level: Tensor, values: Values, sigma_y: Noise = QUANTISATION
    ) -> Tensor:
        """Makes a prior's estimate consistent with the data (DDNM; weighted by their noise as in DDNM+).

        Args:
            x0: the estimate. y: the degraded image.
            noise_level: (B,) standard deviation of the error of x0; the larger, the more the data is trusted.
            sigma_y: standard deviation of the noise of y, a number or (B, 1, 1, 1).
        """

    @abstractmethod
    def closed_form(self, y: Tensor, values: Values, sigma_y: Noise = QUANTISATION) -> Tensor:
        """Estimates the clean image without a prior; it may leave [0, 1]."""

    def input_noise(self, y: Tensor, values: Values, sigma_y: Noise) -> Noise:
        """Returns the standard deviation of what is known of x from y, as large as sigma_y unless A amplifies."""
        return sigma_y

    def estimate_noise(self, y: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Estimates the standard deviation of the noise of degraded images from the images alone: (B,), at least that
        of 8-bit rounding."""
        return detail_noise(y)

    def fits(self, picture: np.ndarray, degradation: Degradation) -> bool:
        """Tells whether a picture, uint8 (H, W, 3), can be what this operator makes of one."""
        return True

    def padding(self, picture: np.ndarray, degradation: Degradation) -> tuple[tuple[int, int], tuple[int, int]]:
        """Counts the pixels that a photograph lacks before and after its rows and its columns for the operator to fit;
        they are to repeat its border."""
        return (0, 0), (0, 0)

    rounds_beyond: int = 3
    """How often what lies beyond a photograph's frame is made again, degraded from the closed form of all of it."""

    def reach(self, degradation: Degradation) -> int:
        """Counts the pixels by which a photograph is to be extended, whose scene goes on beyond its frame."""
        return 0

    def estimate(self, degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
        """Restores uint8 (H, W, 3) by the closed form: float32 (H, W, 3) in [0, 1]."""
        return as_picture(self.closed_form(as_batch(degraded), stack([degradation])))

    def classical(self) -> Mapping[str, Callable[[np.ndarray, Degradation], np.ndarray]]:
        """Returns {name: method like `estimate`}: restorations at given parameters without a learned prior (Table 2).
        The usually best one is first."""
        return {"closed form": self.estimate}

    def restore_classically(self, degraded: np.ndarray, degradation: Degradation) -> np.ndarray:
        """Restores by the first of the classical methods."""
        return next(iter(self.classical().values()))(degraded, degradation)

    def blind(self, degraded: np.ndarray) -> np.ndarray:
        """Restores uint8 (H, W, 3) knowing the type alone: float32 in [0, 1], by default the picture as it is."""
        return degraded.astype(np.float32) / 255


class Phenomenon(Operator):
    """Everything that is true of one physical phenomenon. A new one is one file here: a subclass and `PHENOMENON`."""

    name: ClassVar[str]
    """The type in answers and files; `title` is the same for people."""
    title: ClassVar[str]
    place: ClassVar[Place]
    keys: ClassVar[tuple[Key, ...]]
    """All it can have, in the order they are answered; `keys_in` says which of them a world asks for."""
    severity: ClassVar[Severity]
    formula: ClassVar[str]
    """Its line in the zero-shot question."""

    shows_when_reduced: bool = True
    """It is seen in a photograph that was reduced to the size of a policy's world, too; otherwise it is read from
    pieces at the photograph's own scale alone."""
    never_with: tuple[str, ...] = ()
    """Phenomena that no composite has beside it."""
    follows_depth: bool = False
    """Its strength varies with the distance of the scene, where that is known (`envs.degradations.depth`)."""
    alters_exposure: bool = False
    """Its values could not be told from another exposure of the clean picture, which must then stay as it is."""
    max_clipped: float = 0.10
    """Plausible: share of channel values newly at 0 or 255. Averages do not clip; bicubic reduction overshoots, by .06
    at most in 300 crops."""
    min_contrast: float = 2.0
    """Plausible: standard deviation of the degraded luminance in grey levels; below it 8 bits hold no scene."""

    def keys_in(self, world: World) -> tuple[Key, ...]:
        """Returns the keys under these settings, with their shapes there. Raises ValueError for impossible settings."""
        return self.keys

    def effect(self, values: Mapping[str, Value], size: int) -> float:
        """Returns the number that severity in words goes by, the same at every size of the picture in pixels a side."""
        key = next(key for key in self.keys if key.name == self.severity.key)
        return mean_of(values[key.name]) / (size / 128 if key.in_pixels and not key.is_class else 1)

    @abstractmethod
    def sample(self, rng: np.random.Generator, size: int, kind: DegradationType, mild: bool = False) -> dict:
        """Draws {key: value} before snapping.

        Args:
            size: pixels a side of the picture. kind: the type as its world has it, maybe a composite.
            mild: by the milder laws of a part of a composite.
        """

    def within(self, key: str, value: Value, window: tuple[slice, slice], size: tuple[int, int]) -> Value:
        """Returns the value that a key has in a window of a picture of `size`, (height, width)."""
        return value

    def sample_wide(self, rng: np.random.Generator, size: int, kind: DegradationType) -> dict:
        """Draws {key: value} for the open world: by the law of the paper or the milder one, alone in half of the cases
        each, in a composite always by the milder one."""
        return self.sample(rng, size, kind, mild=len(kind.parts) > 1 or rng.random() < 0.5)

    def joint_with(self, before: str) -> Operator | None:
        """Returns an operator for the phenomenon `before` and then this one, where one after the other undo badly."""
        return None

    def faults(self, change: float, depth_ratio: float | None, alone: bool) -> tuple[str, ...]:
        """Names what makes a sample implausible beside the limits above.

        Args:
            change: mean |degraded - clean| in grey levels.
            depth_ratio: how many times farther the far end of the scene is than the near one; None where unknown.
            alone: the sample has no other degradation.
        """
        return ()
