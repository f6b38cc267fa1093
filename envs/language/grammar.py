"""Writes the answer language as a grammar for vLLM: whatever the weights, the answer is well formed.

Written in llguidance's Lark, which can name tokens by their number: the answer tokens of a trained policy are
single tokens, and a value is one range of them. A model without answer tokens is held to the JSON of the same
answers instead. Every sentence of either language is finite, so that an answer also ends in time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from envs.language.answer import severities
from envs.taxonomy import DegradationType, Key, Taxonomy

BACKEND = "guidance"
"""vLLM's name of the backend that reads this grammar."""


def token_grammar(taxonomy: Taxonomy, token_id: Callable[[str], int], rationale: bool) -> str:
    """Writes the Lark of `Severe blur degradation.[T-blur][K-sigma][V-2.50]`, keys in the taxonomy's order.

    Args:
        token_id: gives the number of an answer token.
        rationale: answers begin with words.
    """
    words = " | ".join(json.dumps(sentence) for sentence in severities(taxonomy))
    start = f"({_either(taxonomy)})"
    if rationale:  # nothing is said of a picture with nothing wrong
        start = f"words ({_either(taxonomy, worded=True)})" + _otherwise(taxonomy)
    lines = [f"start: {start}", f"words: {words}"][: 1 + rationale]
    for number, kind in enumerate(taxonomy.types):
        parts = [part for name in kind.parts for part in _token_parts(taxonomy[name], token_id)]
        lines.append(f"type_{number}: {' '.join(parts)}")
    for key in taxonomy.keys.values():
        lines.append(f"value_{key.name}: <[{_ranges([token_id(key.token_of(v)) for v in key.grid()])}]>")
    return "\n".join(lines)


def json_grammar(taxonomy: Taxonomy) -> str:
    """Writes the Lark of `{"type": "blur", "values": {"sigma": 2.50}}`, keys in the taxonomy's order."""
    lines = [f"start: {_either(taxonomy)}"]
    for number, kind in enumerate(taxonomy.types):
        head = json.dumps(f'{{"type": "{kind.name}", "values": {{')
        keys = ' ", " '.join(f"{json.dumps(json.dumps(key.name) + ': ')} {_nested(key)}" for key in kind.keys)
        lines.append(f'type_{number}: {head} {keys} "}}}}"')
    for key in taxonomy.keys.values():
        numbers = "|".join(f"{number:.{key.decimals}f}".replace(".", r"\.") for number in key.grid())
        lines.append(f"value_{key.name}: /{numbers}/")
    return "\n".join(lines)


def longest(taxonomy: Taxonomy) -> int:
    """Counts the characters of the longest answer in either language, and so more than its tokens."""
    longest_words = max(map(len, severities(taxonomy)))
    return longest_words + max(
        40 + len(kind.name) + sum(16 + len(key.name) + 12 * key.size for key in kind.keys) for kind in taxonomy.types
    )


def _either(taxonomy: Taxonomy, worded: bool = False) -> str:
    """Any type; worded: any that is told in words too."""
    return " | ".join(f"type_{n}" for n, kind in enumerate(taxonomy.types) if kind.phenomena or not worded)


def _otherwise(taxonomy: Taxonomy) -> str:
    """Or the type that is not told in words, if there is one."""
    return "".join(f" | type_{n}" for n, kind in enumerate(taxonomy.types) if not kind.phenomena)


def _token_parts(kind: DegradationType, token_id: Callable[[str], int]) -> list[str]:
    parts = [f"<[{token_id(f'[T-{kind.name}]')}]>"]
    for key in kind.keys:
        parts += [f"<[{token_id(f'[K-{key.name}]')}]>", *[f"value_{key.name}"] * key.size]
    return parts


def _nested(key: Key, depth: int = 0) -> str:
    if depth == len(key.shape):
        return f"value_{key.name}"
    entries = ' ", " '.join([_nested(key, depth + 1)] * key.shape[depth])
    return f'"[" {entries} "]"'


def _ranges(numbers: Sequence[int]) -> str:
    """`3-5,9` of 3, 4, 5, 9."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in runs)
