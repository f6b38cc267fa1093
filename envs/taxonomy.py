"""Says which degradations a world has, which keys they have, and the grid their values live on (Eq. 1).

The taxonomy of the paper's world is `du/1`; one with types that are not the paper's is `du/2`.

Collected from what the files of `envs.degradations` declare; parser, tokens, gate, metrics, documents and plots all
read it. A composite is one more type: its name joins its parts in physical order ("haze+blur"), its keys are theirs in
turn.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, cycle, islice, product

from configs import UserError
from configs.schema import World
from envs.degradations import NONE, OWNERS, PHENOMENA
from envs.degradations.base import Key, Phenomenon, Value

__all__ = [
    "NONE", "TAXONOMY", "Degradation", "DegradationType", "Key", "Taxonomy", "taxonomy", "turns", "world_taxonomy"
]  # fmt: skip

PAPER, OPEN = "du/1", "du/2"
OPEN_TURNS = ("single", "several", "none", "single", "several", "single", "none", "single", "several", "single")
"""What samples of a world with `none` and composites take turns at."""


@dataclass(frozen=True)
class DegradationType:
    """Describes one phenomenon and its keys, in the order they are answered; or several at once, a composite."""

    name: str
    keys: tuple[Key, ...]

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The names of the phenomena in physical order; of a single type, its own."""
        return parts_of(self.name)

    @property
    def phenomena(self) -> tuple[Phenomenon, ...]:
        """What is declared of its parts; of `NONE` nothing."""
        return tuple(PHENOMENA[name] for name in self.parts if name != NONE)

    @property
    def follows_depth(self) -> bool:
        """Whether one of its parts varies with the distance of the scene."""
        return any(part.follows_depth for part in self.phenomena)

    def key(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name)

    def example(self) -> dict:
        """Returns {key: value} with every number in the middle of its range."""

        def filled(key: Key, shape: tuple[int, ...]):
            return [filled(key, shape[1:])] * shape[0] if shape else key.snap((key.low + key.high) / 2)

        return {key.name: filled(key, key.shape) for key in self.keys}


@dataclass(frozen=True)
class Degradation:
    """Gives a type a value for each of its keys, always on the grid; hashable: equal answers are one query.

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

    @property
    def phenomena(self) -> tuple[Phenomenon, ...]:
        """What is declared of its parts; of `NONE` nothing."""
        return tuple(PHENOMENA[name] for name in self.types if name != NONE)

    @property
    def follows_depth(self) -> bool:
        """Whether one of its parts varies with the distance of the scene."""
        return any(part.follows_depth for part in self.phenomena)

    def as_dict(self) -> dict:
        """Returns {"type": ..., "values": {key: number or nested list}}, as in files."""
        return {"type": self.type, "values": {key: _as_lists(value) for key, value in self.values}}


@dataclass(frozen=True)
class Taxonomy:
    """Holds the types of one world. `name` and the whole specification enter `fingerprint`.

    words_at: the size of pictures for which severity in words goes by its effect; 0 where it goes by a key.
    evidence: words before an answer tell what the views show, not the severity.
    """

    types: tuple[DegradationType, ...]
    name: str = PAPER
    words_at: int = 0
    evidence: bool = False

    def __getitem__(self, type_name: str) -> DegradationType:
        return next(kind for kind in self.types if kind.name == type_name)

    def __contains__(self, type_name: object) -> bool:
        return any(kind.name == type_name for kind in self.types)

    @cached_property
    def singles(self) -> tuple[DegradationType, ...]:
        """The types that are no composites."""
        return tuple(kind for kind in self.types if len(kind.parts) == 1)

    @property
    def is_open(self) -> bool:
        """Whether it has types that the paper's world has not."""
        return self.name == OPEN

    @property
    def degraded(self) -> tuple[DegradationType, ...]:
        """The types of pictures with something wrong, composites among them."""
        return tuple(kind for kind in self.types if kind.phenomena)

    @cached_property
    def most_parts(self) -> int:
        """How many degradations a picture has at once, at most."""
        return max(len(kind.parts) for kind in self.types)

    @property
    def keys(self) -> dict[str, Key]:
        """Every key of every type, by name (a name belongs to one single type and the composites it is part of)."""
        return {key.name: key for kind in self.types for key in kind.keys}

    def examples(self, count: int) -> list[Degradation]:
        """Returns different degradations of the first type, for measurements that restore nothing."""
        kind = self.singles[0]
        grids = product(*(key.grid() for key in kind.keys))
        names = [key.name for key in kind.keys]
        return [self.degradation(kind.name, dict(zip(names, values, strict=True))) for values in islice(grids, count)]

    def fingerprint(self) -> str:
        """Returns 16 hex digits that change with any type, key, range or step."""
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
    """Splits "haze+blur" into ("haze", "blur")."""
    return tuple(type_name.split("+"))


def joined(names: Iterable[str]) -> str:
    """Names the type with these parts: in physical order, names that are no phenomenon last."""

    def place(name: str) -> tuple:
        return (PHENOMENA[name].place, name) if name in PHENOMENA else (math.inf, "")

    return "+".join(sorted(names, key=place))


def taxonomy(**settings) -> Taxonomy:
    """Builds the taxonomy of a world given by some of its settings, for example `taxonomy(composites=2)`."""
    return world_taxonomy(World(**settings))


def world_taxonomy(world: World) -> Taxonomy:
    """Builds the taxonomy of a world from what the phenomena declare.

    Args:
        world: its `types` in order; its `step_scale` multiplies every non-integer step (Figure 7); `composites` is how
            many degradations there are at once, at most: 2 adds all pairs, 3 all triples too, but for those that
            never meet (`Phenomenon.never_with`); others matter to the keys of single types.

    Raises:
        ValueError: a setting out of its range.
        UserError: a type that nobody knows, or the same one twice.
    """
    if not 1 <= world.composites <= 3:
        raise ValueError(f"composites lies in 1 .. 3, not {world.composites}")
    known, names = [*PHENOMENA, NONE], list(world.types)
    if wrong := [name for name in names if name not in known or names.count(name) > 1]:
        raise UserError(f"world.types: expected different ones of {', '.join(known)}, got {', '.join(wrong)}")
    keys = {name: _keys(name, world) for name in names}
    singles = (DegradationType(*item) for item in keys.items())
    in_order = parts_of(joined(name for name in names if name != NONE))
    several = (parts for count in range(2, world.composites + 1) for parts in combinations(in_order, count))
    several = (parts for parts in several if not any(set(PHENOMENA[name].never_with) & set(parts) for name in parts))
    composites = (DegradationType("+".join(p), tuple(k for name in p for k in keys[name])) for p in several)
    name = PAPER if set(names) <= set(World().types) else OPEN
    words_at = world.size if world.severity == "law" else 0
    return Taxonomy((*singles, *composites), name, words_at, world.rationale_style == "evidence")


def turns(taxonomy: Taxonomy) -> tuple[DegradationType, ...]:
    """Orders the types as samples take turns at them.

    Singles and composites alternate, each single as often as every other and each composite likewise, so that half
    of the samples are single. Without composites, the types as they are. Where a picture may have nothing wrong, a
    fifth of the samples has not, half are single and three in ten composites.
    """
    singles = taxonomy.singles
    several = [kind for kind in taxonomy.types if kind not in singles]
    if not several:
        return taxonomy.types
    if NONE in taxonomy:
        kinds = {"single": [k for k in singles if k.phenomena], "several": several, "none": [taxonomy[NONE]]}
        each = {name: cycle(some) for name, some in kinds.items()}
        rounds = math.lcm(*(len(some) for some in kinds.values()))
        return tuple(next(each[name]) for _ in range(rounds) for name in OPEN_TURNS)
    rounds = math.lcm(len(singles), len(several))
    pairs = ((singles[i % len(singles)], several[i % len(several)]) for i in range(rounds))
    return tuple(kind for pair in pairs for kind in pair)


def samples_a_photo(taxonomy: Taxonomy) -> int:
    """Counts the samples that one photograph makes before the next one's turn comes: a round of `turns` where it is
    short; in the open world, where a round has thousands, as many as show each kind of sample."""
    return len(OPEN_TURNS) if NONE in taxonomy else len(turns(taxonomy))


def _keys(name: str, world: World) -> tuple[Key, ...]:
    if name == NONE:
        return ()
    return tuple(_scaled(key, world.step_scale) for key in PHENOMENA[name].keys_in(world))


def _scaled(key: Key, step_scale: float) -> Key:
    return key if key.is_class else replace(key, step=key.step * step_scale)


def _as_lists(value):
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


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


TAXONOMY = taxonomy()
