"""Reads whatever a model or a file says of a picture into a `Degradation`, or says what can be read of it and why not.

No reader ever raises, and each takes time and memory in proportion to the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from envs.language.answer import Invalid, parse
from envs.taxonomy import Degradation, Taxonomy, joined, parts_of

MAX_CHARACTERS = 65536
MAX_OBJECTS = 256
"""Places in a text where an object is looked for; a bound on the time a text takes."""
_TYPE_READ = ("wrong_keys", "wrong_shape", "bad_number", "out_of_range")
_TYPE = re.compile(r"\[T-([^\[\]\s]{1,32})\]")
_OBJECT = re.compile(r'\{\s*"')


@dataclass(frozen=True)
class Reading:
    """Holds what an answer says, as far as it can be read.

    type: a type of the taxonomy, or None. keys_right: it has exactly that type's keys. degradation: None
    unless everything is valid, values in range included. reason: why it is None.
    """

    type: str | None = None
    keys_right: bool = False
    degradation: Degradation | None = None
    reason: str = ""


def read_text(text: object, taxonomy: Taxonomy) -> Reading:
    """Reads an answer in token text. Malformed or too long text is no answer at all."""
    answer = parse(text, taxonomy)
    if not isinstance(answer, Invalid):
        return read_degradation(answer.degradation)
    named = _TYPE.findall(text)[: taxonomy.most_parts] if answer.reason in _TYPE_READ else []
    written = joined(dict.fromkeys(named))
    kind = written if written in taxonomy else None
    return Reading(kind, kind is not None and answer.reason != "wrong_keys", None, answer.reason)


def read_object(answer: object, taxonomy: Taxonomy) -> Reading:
    """Reads {"type": ..., "values": {...}} or None (no answer)."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("values"), Mapping):
        return Reading(reason="no_answer")
    kind, values = answer.get("type"), answer["values"]
    kind = joined(parts_of(kind)) if isinstance(kind, str) else None
    if kind not in taxonomy:
        return Reading(reason="unknown_type")
    keys_right = set(values) == {key.name for key in taxonomy[kind].keys}
    try:
        return read_degradation(taxonomy.degradation(kind, values))
    except (ValueError, TypeError, OverflowError, RecursionError):  # whatever a file may hold
        return Reading(kind, keys_right, None, "out_of_range" if keys_right else "wrong_keys")


def read_degradation(degradation: Degradation | None) -> Reading:
    """Makes the reading of a valid answer, or of none."""
    return Reading(degradation.type, True, degradation) if degradation else Reading(reason="no_answer")


def read_free_text(text: object, taxonomy: Taxonomy) -> Reading:
    """Reads an answer in token text, or the first JSON object in `text` that has type and values.

    Code fences and prose around the object do not matter; what is no JSON (comments, trailing commas) is no answer.
    """
    if not isinstance(text, str) or not isinstance(parse(text, taxonomy), Invalid):
        return read_text(text, taxonomy)
    if len(text) > MAX_CHARACTERS:
        return Reading(reason="too_long")
    answer = next((item for item in _objects(text) if "type" in item and "values" in item), None)
    if answer is not None:
        return read_object(answer, taxonomy)
    return read_text(text, taxonomy) if "[T-" in text else Reading(reason="no_answer")


def _objects(text: str) -> Iterator[dict]:
    """Yields the JSON objects in a text by where they begin, those inside others too."""
    decoder = json.JSONDecoder()
    for place in islice(_OBJECT.finditer(text), MAX_OBJECTS):
        with suppress(ValueError, RecursionError):  # no JSON; an integer of thousands of digits; nested in the hundreds
            yield decoder.raw_decode(text, place.start())[0]
