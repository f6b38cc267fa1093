"""The taxonomy `du/1`: which degradations exist, which keys they have, and the grid their values live on (Eq. 1).

The single source of truth: parser, tokens, gate, metrics, documents and plots all read it.
A composite is one more type: its name joins its parts in physical order ("haze+blur"), its keys are theirs in turn.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

Value = float | tuple  # a number, or nested tuples of numbers for vector and grid keys
PHYSICAL_ORDER = ("haze", "blur", "low_light", "low_resolution")
"""The way of the light: air, lens, sensor, storage. The parts of a composite are applied in this order."""


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
    """One physical phenomenon and its keys, in the order they are answered; or several at once, a composite."""

    name: str
    keys: tuple[Key, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the phenomena in physical order; of a single type, its own."""
        return parts_of(self.name)

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

    @property
    def types(self) -> tuple[str, ...]:
        """The names of its parts in physical order; of a single degradation, its own."""
        return parts_of(self.type)

    @property
    def parts(self) -> tuple[Degradation, ...]:
        """One degradation for each of its types, in physical order."""
        return tuple(
            Degradation(name, tuple((key, value) for key, value in self.values if OWNERS[key] == name))
            for name in self.types
        )

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
    def singles(self) -> tuple[DegradationType, ...]:
        """The types that are no composites."""
        return tuple(kind for kind in self.types if len(kind.parts) == 1)

    @property
    def most_parts(self) -> int:
        """How many degradations a picture has at once, at most."""
        return max(len(kind.parts) for kind in self.types)

    @property
    def keys(self) -> dict[str, Key]:
        """Every key of every type, by name (a name belongs to one single type and the composites it is part of)."""
        return {key.name: key for kind in self.types for key in kind.keys}

    def fingerprint(self) -> str:
        """16 hex digits that change with any type, key, range or step."""
        spec = [[t.name, [[k.name, k.low, k.high, k.step, list(k.shape)] for k in t.keys]] for t in self.types]
        return hashlib.sha256(json.dumps([self.name, spec]).encode()).hexdigest()[:16]

    def degradation(self, type_name: str, values: Mapping) -> Degradation:
        """Checks type, keys, shapes and ranges and snaps to the grid. A composite may name its parts in any order.

        Raises:
            ValueError: with one sentence that names what was expected and what came.
        """
        type_name = joined(parts_of(type_name))
        if type_name not in self:
            raise ValueError(f"unknown degradation type {type_name!r}: expected one of {[t.name for t in self.types]}")
        kind = self[type_name]
        expected, given = [key.name for key in kind.keys], list(values)
        if sorted(expected) != sorted(given):
            raise ValueError(f"{type_name} has the keys {expected}, not {given}")
        return Degradation(type_name, tuple((key.name, _checked(key, values[key.name])) for key in kind.keys))


def parts_of(type_name: str) -> tuple[str, ...]:
    """("haze", "blur") of "haze+blur"."""
    return tuple(type_name.split("+"))


def joined(names: Iterable[str]) -> str:
    """The name of the type with these parts: in physical order, names that are no single type last."""
    order = {name: place for place, name in enumerate(PHYSICAL_ORDER)}
    return "+".join(sorted(names, key=lambda name: order.get(name, len(order))))


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


def taxonomy(
    camera: bool = False, transmission_grid: int = 1, step_scale: float = 1.0, composites: int = 1
) -> Taxonomy:
    """The taxonomy `du/1`.

    Args:
        camera: low light has its 3x3 camera matrix as a key; False is the two-key variant (identity matrix).
        transmission_grid: transmission is a g x g grid; 1 is a scalar. At most 8.
        step_scale: multiplies every non-integer step (the ablation of Figure 7).
        composites: degradations at once, at most: 2 adds all pairs, 3 all triples too.
    """
    if not 1 <= transmission_grid <= 8:
        raise ValueError(f"transmission_grid lies in 1 .. 8, not {transmission_grid}")
    if not 1 <= composites <= 3:
        raise ValueError(f"composites lies in 1 .. 3, not {composites}")

    def key(name, unit, low, high, step, shape=()):
        return Key(name, unit, low, high, step * (step_scale if step < 1 else 1), shape)

    grid = (transmission_grid,) * 2 if transmission_grid > 1 else ()
    low_light = [key("gamma", "1", 1.0, 5.0, 0.01), key("gain", "1", 0.005, 1.0, 0.001)]
    if camera:
        low_light.insert(0, key("camera", "1", -2.0, 2.0, 0.01, (3, 3)))
    haze = (key("atmospheric_light", "intensity", 0.30, 1.0, 0.01), key("transmission", "1", 0.05, 1.0, 0.01, grid))
    singles = (
        DegradationType("haze", haze),
        DegradationType("low_light", tuple(low_light)),
        DegradationType("blur", (key("sigma", "px", 0.30, 12.0, 0.01),)),
        DegradationType("low_resolution", (key("scale", "1", 2.0, 8.0, 1.0),)),
    )
    keys = {kind.name: kind.keys for kind in singles}
    several = (parts for count in range(2, composites + 1) for parts in combinations(PHYSICAL_ORDER, count))
    return Taxonomy(
        (*singles, *(DegradationType(joined(p), tuple(k for name in p for k in keys[name])) for p in several))
    )


def turns(taxonomy: Taxonomy) -> tuple[DegradationType, ...]:
    """The types in the order in which samples take turns at them.

    Singles and composites alternate, each single as often as every other and each composite likewise, so that half
    of the samples are single. Without composites, the types as they are.
    """
    singles = taxonomy.singles
    several = [kind for kind in taxonomy.types if kind not in singles]
    if not several:
        return taxonomy.types
    rounds = math.lcm(len(singles), len(several))
    pairs = ((singles[i % len(singles)], several[i % len(several)]) for i in range(rounds))
    return tuple(kind for pair in pairs for kind in pair)


TAXONOMY = taxonomy()
OWNERS = {key.name: kind.name for kind in taxonomy(camera=True).types for key in kind.keys}
"""{key: the single type it belongs to}."""
