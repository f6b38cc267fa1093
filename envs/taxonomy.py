"""The taxonomy `du/1`: which degradations exist, which keys they have, and the grid their values live on (Eq. 1).

The single source of truth: parser, tokens, gate, metrics, documents and plots all read it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

Value = float | tuple  # a number, or nested tuples of numbers for vector and grid keys


@dataclass(frozen=True)
class Key:
    """One physical parameter: `low <= value <= high` in steps of `step`, an array of `shape` (() is a scalar)."""

    name: str
    unit: str
    low: float
    high: float
    step: float
    shape: tuple[int, ...] = ()

    @property
    def bins(self) -> int:
        return math.floor((self.high - self.low) / self.step + 1e-6) + 1

    @property
    def size(self) -> int:
        """Numbers in one value."""
        return math.prod(self.shape)

    @cached_property
    def decimals(self) -> int:
        """Digits after the point that write every grid number exactly; at most 6."""
        exact = (d for d in range(6) if all(abs(n * 10**d - round(n * 10**d)) < 1e-6 for n in (self.low, self.step)))
        return next(exact, 6)

    def snap(self, number: float) -> float:
        """The nearest grid point, clipped to the range."""
        index = round((min(max(number, self.low), self.high) - self.low) / self.step)
        return round(self.low + min(index, self.bins - 1) * self.step, self.decimals)

    def token(self, number: float) -> str:
        """The value token of one number after snapping, for example `[V-0.63]`."""
        return self.token_of(self.snap(number))

    def token_of(self, number: float) -> str:
        """The value token of a number that is on the grid already."""
        return f"[V-{number:.{self.decimals}f}]"

    def grid(self) -> Iterator[float]:
        return (round(self.low + i * self.step, self.decimals) for i in range(self.bins))


@dataclass(frozen=True)
class DegradationType:
    """One physical phenomenon and its keys, in the order they are answered."""

    name: str
    keys: tuple[Key, ...]

    def key(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name)


@dataclass(frozen=True)
class Degradation:
    """A type with a value for each of its keys, always on the grid; hashable, so that equal answers are one query.

    Build it with `Taxonomy.degradation`, which checks and snaps.
    """

    type: str
    values: tuple[tuple[str, Value], ...]

    def __getitem__(self, key: str) -> Value:
        return dict(self.values)[key]

    def as_dict(self) -> dict:
        """{"type": ..., "values": {key: number or nested list}}, as in files."""
        return {"type": self.type, "values": {key: _nested(value, list) for key, value in self.values}}


@dataclass(frozen=True)
class Taxonomy:
    """The types of one world. `name` and the whole specification enter `fingerprint`."""

    types: tuple[DegradationType, ...]
    name: str = "du/1"

    def __getitem__(self, type_name: str) -> DegradationType:
        return next(kind for kind in self.types if kind.name == type_name)

    def __contains__(self, type_name: object) -> bool:
        return any(kind.name == type_name for kind in self.types)

    @property
    def keys(self) -> dict[str, Key]:
        """Every key of every type, by name (names are unique)."""
        return {key.name: key for kind in self.types for key in kind.keys}

    def fingerprint(self) -> str:
        """16 hex digits that change with any type, key, range or step."""
        spec = [[t.name, [[k.name, k.low, k.high, k.step, list(k.shape)] for k in t.keys]] for t in self.types]
        return hashlib.sha256(json.dumps([self.name, spec]).encode()).hexdigest()[:16]

    def degradation(self, type_name: str, values: Mapping) -> Degradation:
        """Checks type, keys, shapes and ranges and snaps to the grid.

        Raises:
            ValueError: with one sentence that names what was expected and what came.
        """
        if type_name not in self:
            raise ValueError(f"unknown degradation type {type_name!r}: expected one of {[t.name for t in self.types]}")
        kind = self[type_name]
        expected, given = [key.name for key in kind.keys], list(values)
        if sorted(expected) != sorted(given):
            raise ValueError(f"{type_name} has the keys {expected}, not {given}")
        return Degradation(type_name, tuple((key.name, _checked(key, values[key.name])) for key in kind.keys))


def _nested(value, kind):
    return kind(_nested(item, kind) for item in value) if isinstance(value, (tuple, list)) else value


def _checked(key: Key, value) -> Value:
    def walk(item, shape):
        if shape:
            if not isinstance(item, (list, tuple)) or len(item) != shape[0]:
                raise ValueError(f"{key.name} has the shape {list(key.shape)}, not {value!r}")
            return tuple(walk(part, shape[1:]) for part in item)
        if isinstance(item, bool) or not isinstance(item, (int, float)) or not math.isfinite(item):
            raise ValueError(f"{key.name} is a number, not {item!r}")
        slack = key.step / 2
        if not key.low - slack <= item <= key.high + slack:
            raise ValueError(f"{key.name} lies in {key.low} .. {key.high} {key.unit}, not {item}")
        return key.snap(item)

    return walk(value, key.shape)


def taxonomy(camera: bool = False, transmission_grid: int = 1, step_scale: float = 1.0) -> Taxonomy:
    """The taxonomy `du/1`.

    Args:
        camera: low light has its 3x3 camera matrix as a key; False is the two-key variant (identity matrix).
        transmission_grid: transmission is a g x g grid; 1 is a scalar. At most 8.
        step_scale: multiplies every non-integer step (the ablation of Figure 7).
    """
    if not 1 <= transmission_grid <= 8:
        raise ValueError(f"transmission_grid lies in 1 .. 8, not {transmission_grid}")

    def key(name, unit, low, high, step, shape=()):
        return Key(name, unit, low, high, step * (step_scale if step < 1 else 1), shape)

    grid = (transmission_grid,) * 2 if transmission_grid > 1 else ()
    low_light = [key("gamma", "1", 1.0, 5.0, 0.01), key("gain", "1", 0.005, 1.0, 0.001)]
    if camera:
        low_light.insert(0, key("camera", "1", -2.0, 2.0, 0.01, (3, 3)))
    return Taxonomy(
        (
            DegradationType(
                "haze",
                (
                    key("atmospheric_light", "intensity", 0.30, 1.0, 0.01),
                    key("transmission", "1", 0.05, 1.0, 0.01, grid),
                ),
            ),
            DegradationType("low_light", tuple(low_light)),
            DegradationType("blur", (key("sigma", "px", 0.30, 12.0, 0.01),)),
            DegradationType("low_resolution", (key("scale", "1", 2.0, 8.0, 1.0),)),
        )
    )


TAXONOMY = taxonomy()
