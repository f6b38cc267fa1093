"""`Degradation` <-> the text a policy writes: a rationale, then `[T-blur][K-sigma][V-2.50]`.

`parse` is total: whatever the text, it returns an `Answer` or an `Invalid` with the reason, in linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from envs.taxonomy import Degradation, Key, Taxonomy

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
    """The severity in words, for example `Severe blur degradation.` (Section 4.1)."""
    key, moderate, severe = _SEVERITY[degradation.type]
    numbers = list(_flat(degradation[key]))
    mean = sum(numbers) / len(numbers)
    sign = 1 if severe > moderate else -1
    level = (sign * mean >= sign * moderate) + (sign * mean >= sign * severe)
    return _sentence(SEVERITY_WORDS[level], degradation.type)


def severities(taxonomy: Taxonomy) -> list[str]:
    """Every rationale there is."""
    return [_sentence(word, kind.name) for kind in taxonomy.types for word in SEVERITY_WORDS]


def _sentence(word: str, type_name: str) -> str:
    return f"{word} {_NAMES[type_name]} degradation."


def write(degradation: Degradation, taxonomy: Taxonomy, with_rationale: bool = True) -> str:
    """The text a perfect policy writes."""
    parts = [rationale(degradation)] if with_rationale else []
    parts.append(f"[T-{degradation.type}]")
    for key in taxonomy[degradation.type].keys:
        parts.append(f"[K-{key.name}]")
        parts += [key.token(number) for number in _flat(degradation[key.name])]
    return "".join(parts)


def answer_tokens(taxonomy: Taxonomy) -> list[str]:
    """Every token of the answer language, values in order of (decimals, value), without duplicates."""
    types = [f"[T-{kind.name}]" for kind in taxonomy.types]
    keys = [f"[K-{name}]" for name in taxonomy.keys]
    values = {(key.decimals, number): key.token(number) for key in taxonomy.keys.values() for number in key.grid()}
    return types + keys + list(dict.fromkeys(values[k] for k in sorted(values)))


def parse(text: object, taxonomy: Taxonomy) -> Answer | Invalid:
    """Reads an answer: free text without tokens, then one type, then its keys in any order, then nothing.

    Never raises. Values off the grid are snapped; values out of range, unknown names, missing, repeated or foreign
    keys, and anything after the tokens make the text `Invalid`.
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
    type_name = tokens[0][2]
    if type_name not in taxonomy:
        return Invalid("unknown_type", type_name)
    numbers: dict[str, list[str]] = {}
    current: list[str] | None = None
    for token in tokens[1:]:
        kind, body = token[1], token[2]
        if kind == "T" or (kind == "K" and body in numbers) or (kind == "V" and current is None):
            return Invalid("wrong_keys", f"unexpected {token[0]}")
        if kind == "K":
            current = numbers.setdefault(body, [])
        else:
            current.append(body)
    return _build(type_name, numbers, text[: tokens[0].start()].strip(), taxonomy)


def _build(type_name: str, numbers: dict[str, list[str]], words: str, taxonomy: Taxonomy) -> Answer | Invalid:
    kind = taxonomy[type_name]
    if sorted(numbers) != sorted(key.name for key in kind.keys):
        return Invalid("wrong_keys", f"{type_name} with the keys {sorted(numbers)}")
    values = {}
    for key in kind.keys:
        written = numbers[key.name]
        if len(written) != key.size:
            return Invalid("wrong_shape", f"{key.name} has {key.size} numbers, not {len(written)}")
        if not all(_NUMBER.fullmatch(number) for number in written):
            return Invalid("bad_number", f"{key.name}: {' '.join(written)[:60]}")
        values[key.name] = _shaped([float(number) for number in written], key)
    try:
        return Answer(taxonomy.degradation(type_name, values), words)
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
