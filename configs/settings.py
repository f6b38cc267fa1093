"""Describes the settings of the schema one by one: what each takes, its range, its help."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from configs.schema import Config


@dataclass(frozen=True)
class Setting:
    """Describes one setting of the schema.

    key: dotted, as in `reward.actors`. kind: str, bool, int, float, Literal[...] or a list of one of these.
    low, high: the range of a number, or of each number of a list.
    """

    key: str
    kind: Any
    default: Any
    help: str
    low: float | None
    high: float | None

    @property
    def is_list(self) -> bool:
        return get_origin(self.kind) is list

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed; none where any text or number is."""
        kind = get_args(self.kind)[0] if self.is_list else self.kind
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def expected(self) -> str:
        """Says what the setting takes, as in `expected ...`."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind == list[float]:
            return f"{len(self.default)} numbers as in [{','.join(map(str, self.default))}]"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        return words.get(self.kind, "whole numbers as in [1,2]" if self.kind == list[int] else "words as in [a,b]")

    def wrong(self, value: Any) -> str:
        """Says what is wrong with a value of the right type; empty where nothing is."""
        items = value if self.is_list else [value]
        if self.default and self.is_list and not items or self.kind == list[float] and len(items) != len(self.default):
            return f"expected {self.expected}, got {value!r}"
        for item in items if self.low is not None else ():
            if not math.isfinite(item):
                return f"expected {self.expected}, got {item}"
            if not self.low <= item <= self.high:
                return f"expected {self.low} .. {self.high}, got {item}"
        return ""


@cache
def settings() -> dict[str, Setting]:
    """Lists every setting by its dotted key, in the order of the schema."""
    return {setting.key: setting for setting in _settings(Config)}


def _settings(section: type, prefix: str = "") -> Iterator[Setting]:
    kinds = get_type_hints(section)
    for each in fields(section):
        key, kind = prefix + each.name, kinds[each.name]
        if is_dataclass(kind):
            yield from _settings(kind, f"{key}.")
        else:
            yield Setting(key, kind, _default(each), **each.metadata)


def _default(each: Field) -> Any:
    return each.default_factory() if callable(each.default_factory) else each.default
