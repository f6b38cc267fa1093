"""The question for a model that was never trained on the answer tokens, and how its free text is read.

Everything the question says of types, keys, units, ranges and steps is made from the `Taxonomy`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from envs.language.answer import Invalid, parse
from envs.metrics import Reading, read_object, read_text
from envs.taxonomy import DegradationType, Key, Taxonomy

MAX_TOKENS = 1024
"""Tokens a zero-shot answer may take: JSON, and some prose around it."""
MAX_CHARACTERS = 65536
MAX_OBJECTS = 256
"""Places in a text where an object is looked for; a bound on the time a text takes."""

_VIEWS = {
    "image": "the degraded photograph",
    "fft": "the log amplitude of the Fourier transform of its luminance, zero frequency in the centre",
    "edge": "its Sobel edges",
    "log": "the logarithm of its levels, log2(1 + level) / 8",
}
_PHYSICS = {
    "haze": "y = t x + A (1 - t), x the clean image on [0, 1], A the atmospheric light, t the transmission",
    "low_light": "y = gain * x ** gamma (by a 3 x 3 XYZ-to-camera matrix between the two, where it is asked for), "
    "rounded to 8 bits",
    "blur": "convolution with a Gaussian of standard deviation sigma",
    "low_resolution": "bicubic reduction by an integer scale, shown enlarged by pixel replication",
}
_OBJECT = re.compile(r'\{\s*"')


def question(taxonomy: Taxonomy, view_names: Sequence[str]) -> str:
    """The zero-shot prompt: what the pictures are, the taxonomy as a table, and the JSON that is expected."""
    pictures = "; ".join(f"picture {number}: {_VIEWS[name]}" for number, name in enumerate(view_names, 1))
    types = "\n".join(line for kind in taxonomy.types for line in _lines(kind))
    example = json.dumps({"type": taxonomy.types[0].name, "values": _example(taxonomy.types[0])})
    return (
        f"A photograph was degraded by a known physical process. You see {pictures}.\n"
        "Say which degradation it is, and estimate all of its parameters. "
        "The types, each with its parameters (name, unit, range, step):\n"
        f"{types}\n"
        'Answer with one JSON object and nothing else: {"type": a type above, "values": {each of its '
        "parameters by name: a number, or nested lists of the stated shape}}. "
        f"For example, in form only:\n{example}"
    )


def read(text: object, taxonomy: Taxonomy) -> Reading:
    """Reads an answer in token text, or the first JSON object in `text` that has type and values. Never raises.

    Code fences and prose around the object do not matter; what is no JSON (comments, trailing commas) is no answer.
    """
    if not isinstance(text, str) or not isinstance(parse(text, taxonomy), Invalid):
        return read_text(text, taxonomy)
    if len(text) > MAX_CHARACTERS:
        return Reading(reason="too_long")
    found = next((item for item in _objects(text) if "type" in item and "values" in item), None)
    if found is not None:
        return read_object(found, taxonomy)
    return read_text(text, taxonomy) if "[T-" in text else Reading(reason="no_answer")


def _lines(kind: DegradationType) -> Iterator[str]:
    yield f"- {kind.name}: {_PHYSICS[kind.name]}" if kind.name in _PHYSICS else f"- {kind.name}"
    for key in kind.keys:
        shape = f"; shape {list(key.shape)}" if key.shape else ""
        low, high, step = (f"{number:.{key.decimals}f}" for number in (key.low, key.high, key.step))
        unit = "" if key.unit == "1" else f"in {key.unit}, "
        yield f"  - {key.name}: {unit}{low} to {high} in steps of {step}{shape}"


def _example(kind: DegradationType) -> dict:
    return {key.name: _filled(key, key.shape) for key in kind.keys}


def _filled(key: Key, shape: Sequence[int]):
    if shape:
        return [_filled(key, shape[1:]) for _ in range(shape[0])]
    return key.snap((key.low + key.high) / 2)


def _objects(text: str) -> Iterator[dict]:
    """The JSON objects in a text by where they begin, those inside others too."""
    decoder = json.JSONDecoder()
    for place in islice(_OBJECT.finditer(text), MAX_OBJECTS):
        with suppress(ValueError, RecursionError):  # no JSON; an integer of thousands of digits; nested in the hundreds
            yield decoder.raw_decode(text, place.start())[0]
