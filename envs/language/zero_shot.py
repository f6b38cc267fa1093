"""Asks a model that was never trained on the answer tokens, which answers in JSON.

Everything the question says of types, keys, units, ranges and steps is made from the `Taxonomy`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from envs.taxonomy import DegradationType, Taxonomy

MAX_TOKENS = 1024
"""Tokens a zero-shot answer may take: JSON, and some prose around it."""

_VIEWS = {
    "image": "the degraded photograph",
    "fft": "the log amplitude of the Fourier transform of its luminance, zero frequency in the centre",
    "edge": "its Sobel edges",
    "log": "the logarithm of its levels, log2(1 + level) / 8",
    "statistics": "a tile of 8 x 8 coloured cells, repeated: statistics of it, each as its distance from what is usual",
}


def question(taxonomy: Taxonomy, view_names: Sequence[str]) -> str:
    """Writes the zero-shot prompt: what the pictures are, the taxonomy as a table, and the JSON that is expected."""
    pictures = "; ".join(f"picture {number}: {_VIEWS[name]}" for number, name in enumerate(view_names, 1))
    types = "\n".join(line for kind in taxonomy.types for line in _lines(kind))
    example = json.dumps({"type": taxonomy.types[0].name, "values": taxonomy.types[0].example()})
    may = len(taxonomy.degraded) < len(taxonomy.types)
    process = f"{'may have been' if may else 'was'} degraded by a known physical process"
    return (
        f"A photograph {process}. You see {pictures}.\n"
        "Say which degradation it is, and estimate all of its parameters. "
        "The types, each with its parameters (name, unit, range, step):\n"
        f"{types}\n"
        'Answer with one JSON object and nothing else: {"type": a type above, "values": {each of its '
        "parameters by name: a number, or nested lists of the stated shape}}. "
        f"For example, in form only:\n{example}"
    )


def _lines(kind: DegradationType) -> Iterator[str]:
    if kind.phenomena:
        yield f"- {kind.name}: {kind.phenomena[0].formula}" if len(kind.parts) == 1 else f"- {kind.name}"
    else:
        yield f"- {kind.name}: nothing is wrong with the photograph; no parameters"
    for key in kind.keys:
        shape = f"; shape {list(key.shape)}" if key.shape else ""
        low, high, step = (f"{number:.{key.decimals}f}" for number in (key.low, key.high, key.step))
        unit = "" if key.unit == "1" else f"in {key.unit}, "
        yield f"  - {key.name}: {unit}{low} to {high} in steps of {step}{shape}"
