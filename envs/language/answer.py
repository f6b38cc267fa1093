"""`Degradation` <-> the text a policy writes: a rationale, then `[T-blur][K-sigma][V-2.50]`, once for each part.

`parse` is total: whatever the text, it returns an `Answer` or an `Invalid` with the reason, in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from envs.taxonomy import Degradation, Key, Taxonomy, joined

MAX_CHARACTERS = 4096
_TOKEN = re.compile(r"\[([TKV])-([^\[\]\s]{1,32})\]")
_NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")
_NAMES = {"haze": "haze", "low_light": "low-light", "blur": "blur", "low_resolution": "low-resolution"}
SEVERITY_WORDS = ("Mild", "Moderate", "Severe")
_SEVERITY = {  # the key that says how bad it is, and the values where mild becomes moderate becomes severe
    "haze": ("transmission", 0.55, 0.35),
    "low_light": ("gamma", 2.5, 3.0),
    "blur": ("sigma", 1.8, 3.0),
    "low_resolution": ("scale", 2.5, 3.5),
}


@dataclass(frozen=True)
class Answer:
    """A well-formed answer: its degradation, on the grid, and the rationale before it."""

    degradation: Degradation
    rationale: str = ""


@dataclass(frozen=True)
class Invalid:
    """Why a text is no answer. `reason` is one of `REASONS`; `detail` is for people."""

    reason: str
    detail: str = ""


REASONS = (
    "too_long",
    "no_answer",
    "trailing_text",
    "unknown_type",
    "wrong_keys",
    "wrong_shape",
    "bad_number",
    "out_of_range",
)


def rationale(degradation: Degradation) -> str:
    """The severity in words, for example `Severe blur degradation.` (Section 4.1).

    Of a composite, each part's: `Severe haze and mild blur degradation.`
    """
    levels = [_level(name, degradation[_SEVERITY[name][0]]) for name in degradation.types]
    return _sentence(levels, degradation.types)


def severities(taxonomy: Taxonomy) -> list[str]:
    """Every rationale there is."""
    levels = range(len(SEVERITY_WORDS))
    return [_sentence(each, t.parts) for t in taxonomy.types for each in product(levels, repeat=len(t.parts))]


def _level(type_name: str, value) -> int:
    _, moderate, severe = _SEVERITY[type_name]
    numbers = list(_flat(value))
    mean = sum(numbers) / len(numbers)
    sign = 1 if severe > moderate else -1
    return (sign * mean >= sign * moderate) + (sign * mean >= sign * severe)


def _sentence(levels: Sequence[int], names: Sequence[str]) -> str:
    phrases = [f"{SEVERITY_WORDS[level].lower()} {_NAMES[name]}" for level, name in zip(levels, names, strict=True)]
    *others, last = phrases
    return " and ".join([*filter(None, [", ".join(others)]), f"{last} degradation."]).capitalize()


def write(degradation: Degradation, taxonomy: Taxonomy, with_rationale: bool = True) -> str:
    """The text a perfect policy writes."""
    text = [rationale(degradation)] if with_rationale else []
    for name in degradation.types:
        text.append(f"[T-{name}]")
        for key in taxonomy[name].keys:
            text.append(f"[K-{key.name}]")
            text += [key.token(number) for number in _flat(degradation[key.name])]
    return "".join(text)


def answer_tokens(taxonomy: Taxonomy) -> list[str]:
    """Every token of the answer language, values in order of (decimals, value), without duplicates."""
    types = [f"[T-{kind.name}]" for kind in taxonomy.singles]
    keys = [f"[K-{name}]" for name in taxonomy.keys]
    values = {(key.decimals, number): key.token(number) for key in taxonomy.keys.values() for number in key.grid()}
    return types + keys + list(dict.fromkeys(values[k] for k in sorted(values)))


def parse(text: object, taxonomy: Taxonomy) -> Answer | Invalid:
    """Reads an answer: free text without tokens, then a type and its keys in any order, then nothing.

    A composite gives each of its parts so, in any order: an answer is a set. Never raises. Values off the grid are
    snapped; values out of range, unknown names, missing, repeated or foreign keys, a type too many or twice, and
    anything after the tokens make the text `Invalid`.
    """
    if not isinstance(text, str):
        return Invalid("no_answer", f"expected text, got {type(text).__name__}")
    if len(text) > MAX_CHARACTERS:
        return Invalid("too_long", f"{len(text)} characters, at most {MAX_CHARACTERS}")
    tokens = list(_TOKEN.finditer(text))
    if not tokens or tokens[0][1] != "T":
        return Invalid("no_answer", "no [T-...] token before keys and values")
    end = tokens[0].start()
    for token in tokens:
        if text[end : token.start()].strip():
            return Invalid("trailing_text", f"text between tokens: {text[end : token.start()][:40]!r}")
        end = token.end()
    if text[end:].strip():
        return Invalid("trailing_text", f"text after the answer: {text[end:].strip()[:40]!r}")
    numbers: dict[str, dict[str, list[str]]] = {}  # {type: {key: numbers as they are written}}
    keys: dict[str, list[str]] = {}
    current: list[str] | None = None
    for token in tokens:
        kind, body = token[1], token[2]
        if kind == "T":
            if body in numbers or len(numbers) == taxonomy.most_parts:
                return Invalid("wrong_keys", f"unexpected {token[0]}")
            if body not in [single.name for single in taxonomy.singles]:
                return Invalid("unknown_type", body)
            keys, current = numbers.setdefault(body, {}), None
        elif (kind == "K" and body in keys) or (kind == "V" and current is None):
            return Invalid("wrong_keys", f"unexpected {token[0]}")
        elif kind == "K":
            current = keys.setdefault(body, [])
        else:
            current.append(body)
    return _build(numbers, text[: tokens[0].start()].strip(), taxonomy)


def _build(numbers: dict[str, dict[str, list[str]]], words: str, taxonomy: Taxonomy) -> Answer | Invalid:
    for type_name, found in numbers.items():  # of all parts first: any later reason says that the keys are right
        if sorted(found) != sorted(key.name for key in taxonomy[type_name].keys):
            return Invalid("wrong_keys", f"{type_name} with the keys {sorted(found)}"[:300])
    values = {}
    for type_name, found in numbers.items():
        for key in taxonomy[type_name].keys:
            written = found[key.name]
            if len(written) != key.size:
                return Invalid("wrong_shape", f"{key.name} has {key.size} numbers, not {len(written)}")
            if not all(_NUMBER.fullmatch(number) for number in written):
                return Invalid("bad_number", f"{key.name}: {' '.join(written)[:60]}")
            values[key.name] = _shaped([float(number) for number in written], key)
    try:
        return Answer(taxonomy.degradation(joined(numbers), values), words)
    except ValueError as error:
        return Invalid("out_of_range", str(error))


def _flat(value):
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _shaped(numbers: list[float], key: Key):
    for length in reversed(key.shape):
        numbers = [numbers[i : i + length] for i in range(0, len(numbers), length)]
    return numbers[0]
