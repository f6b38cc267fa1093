"""Turns a `Degradation` into the text a policy writes, and back: a rationale, then the tokens of each part, such as
`[T-blur][K-sigma][V-2.50]`.

`parse` is total: whatever the text, it returns an `Answer` or an `Invalid` with the reason, in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from envs.degradations.base import Phenomenon, flatten
from envs.language import evidence
from envs.taxonomy import NONE, TAXONOMY, Degradation, Key, Taxonomy, joined

MAX_CHARACTERS = 4096
_TOKEN = re.compile(r"\[([TKV])-([^\[\]\s]{1,32})\]")
_NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")
SEVERITY_WORDS = ("Mild", "Moderate", "Severe")


@dataclass(frozen=True)
class Answer:
    """Holds a well-formed answer: its degradation, on the grid, and the rationale before it."""

    degradation: Degradation
    rationale: str = ""


@dataclass(frozen=True)
class Invalid:
    """Says why a text is no answer. `reason` is one of `REASONS`; `detail` is for people."""

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


def rationale(degradation: Degradation, taxonomy: Taxonomy = TAXONOMY, picture: np.ndarray | None = None) -> str:
    """Says the severity in words, for example `Severe blur degradation.` (Section 4.1).

    By the thresholds of a key, or where the world's `severity` is `law` by the effect (`Phenomenon.effect`).

    Of a composite, each part's: `Severe haze and mild blur degradation.` Of `none`, an empty text. Where the world's
    rationale is `evidence`, what is seen in the degraded picture, uint8 (H, W, 3), is said instead.
    """
    phenomena = degradation.phenomena
    if taxonomy.evidence and phenomena:
        return evidence.describe(picture)
    if size := taxonomy.words_at:
        values = dict(degradation.values)
        levels = [part.severity.level_of_effect(part.effect(values, size)) for part in phenomena]
    else:
        levels = [part.severity.level(degradation[part.severity.key]) for part in phenomena]
    return sentence(levels, phenomena)


def severities(taxonomy: Taxonomy) -> list[str]:
    """Lists every rationale there is."""
    if taxonomy.evidence:
        return evidence.sentences()
    levels = range(len(SEVERITY_WORDS))
    return [sentence(each, t.phenomena) for t in taxonomy.degraded for each in product(levels, repeat=len(t.parts))]


def sentence(levels: Sequence[int], phenomena: Sequence[Phenomenon]) -> str:
    """Says the severity of each phenomenon, 0, 1 or 2 for mild, moderate or severe; nothing of none."""
    if not phenomena:
        return ""
    phrases = [
        f"{SEVERITY_WORDS[level].lower()} {part.title.replace(' ', '-')}"
        for level, part in zip(levels, phenomena, strict=True)
    ]
    *others, last = phrases
    return " and ".join([*filter(None, [", ".join(others)]), f"{last} degradation."]).capitalize()


def write(
    degradation: Degradation, taxonomy: Taxonomy, with_rationale: bool = True, picture: np.ndarray | None = None
) -> str:
    """Writes the text of a perfect policy. picture: the degraded one, uint8 (H, W, 3), of which evidence is told."""
    text = [rationale(degradation, taxonomy, picture)] if with_rationale else []
    for name in degradation.types:
        text.append(f"[T-{name}]")
        for key in taxonomy[name].keys:
            text.append(f"[K-{key.name}]")
            text += [key.token(number) for number in flatten(degradation[key.name])]
    return "".join(text)


def answer_tokens(taxonomy: Taxonomy) -> list[str]:
    """Lists every token of the answer language, values in order of (decimals, value), without duplicates."""
    types = [f"[T-{kind.name}]" for kind in taxonomy.singles]
    keys = [f"[K-{name}]" for name in taxonomy.keys]
    values = {(key.decimals, number): key.token(number) for key in taxonomy.keys.values() for number in key.grid()}
    return types + keys + list(dict.fromkeys(values[k] for k in sorted(values)))


def parse(text: object, taxonomy: Taxonomy) -> Answer | Invalid:
    """Reads an answer: free text without tokens, then a type and its keys in any order, then nothing.

    A composite gives each of its parts so, in any order: an answer is a set. `[T-none]` stands alone. Never raises.
    Values off the grid are snapped; values out of range, unknown names, missing, repeated or foreign keys, a type too
    many or twice, and anything after the tokens make the text `Invalid`.
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
            if body in numbers or len(numbers) == taxonomy.most_parts or (numbers and NONE in (body, *numbers)):
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
    for type_name, keys in numbers.items():  # of all parts first: any later reason says that the keys are right
        if sorted(keys) != sorted(key.name for key in taxonomy[type_name].keys):
            return Invalid("wrong_keys", f"{type_name} with the keys {sorted(keys)}"[:300])
    values = {}
    for key, written in ((key, keys[key.name]) for name, keys in numbers.items() for key in taxonomy[name].keys):
        if len(written) != key.size:
            return Invalid("wrong_shape", f"{key.name} has {key.size} numbers, not {len(written)}")
        if not all(_NUMBER.fullmatch(number) for number in written):
            return Invalid("bad_number", f"{key.name}: {' '.join(written)[:60]}")
        values[key.name] = shaped([float(number) for number in written], key)
    try:
        return Answer(taxonomy.degradation(joined(numbers), values), words)
    except ValueError as error:
        return Invalid("out_of_range", str(error))


def shaped(numbers: list[float], key: Key):
    """Nests the numbers of a key, given row by row, as its values are."""
    for length in reversed(key.shape):
        numbers = [numbers[i : i + length] for i in range(0, len(numbers), length)]
    return numbers[0]
