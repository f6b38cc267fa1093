"""What `benchmarks.fuzz_answer` reads: texts and objects a model might write, or somebody who means harm."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from envs.language import reading
from envs.language.answer import MAX_CHARACTERS, answer_tokens, write
from envs.taxonomy import Degradation, Key, Taxonomy, taxonomy

WORLDS = (taxonomy(), taxonomy(camera=True, transmission_grid=4), taxonomy(composites=3))
ALPHABET = "[]{}TKV-.,:\"'0123456789eE+ \n\t\\ntrulfas\u0661\u00a0\ud800\x00aé漢"
SCRAPS = ("[T-", "[K-", "[V-", "]", "[V--", "[V-1e9]", "[V-.5]", "[T-fog]", "{", "}", '{"', '{"type": ', '"values": {')
SCRAPS += ("```json\n", "```", "NaN", "-Infinity", "1e999", "9" * 400, "null", "true", '"sigma": ')
SCRAPS += ('{"type": "blur", "values": {"sigma": ', "[" * 40, "}}", ", ")


def strings(seed: int, count: int) -> Iterator[tuple[str, Taxonomy]]:
    """Texts to read, each with a world: right answers, the same with a few mutations, scraps, noise, repetitions."""
    rng = random.Random(seed)
    kinds = [_right, _mutated, _mutated, _scraps, _noise, _repeated]
    tokens = {world: answer_tokens(world) for world in WORLDS}
    for _ in range(count):
        world = rng.choice(WORLDS)
        yield rng.choice(kinds)(rng, world, tokens[world]), world


def objects(seed: int, count: int) -> Iterator[tuple[object, Taxonomy]]:
    """Objects to read, each with a world: near answers, with values of every kind in every place."""
    rng = random.Random(seed)
    for _ in range(count):
        world = rng.choice(WORLDS)
        thing = _degradation(rng, world).as_dict()
        for _ in range(rng.randint(0, 3)):
            place = rng.choice((thing, thing.get("values"), {}))
            if isinstance(place, dict):
                place[rng.choice([*place, "type", "values", "sigma", 1, None, ("a",)])] = _thing(rng, 4)
        yield (thing if rng.random() < 0.9 else _thing(rng, 4)), world


def _degradation(rng: random.Random, world: Taxonomy) -> Degradation:
    kind = rng.choice(world.types)

    def value(key: Key, shape):
        if not shape:
            return rng.uniform(key.low, key.high)
        return [value(key, shape[1:]) for _ in range(shape[0])]

    return world.degradation(kind.name, {key.name: value(key, key.shape) for key in kind.keys})


def _thing(rng: random.Random, depth: int) -> object:
    """Any value, at most `depth` levels of containers in it, but for one that is very deep."""
    if rng.random() < 0.02:
        nested: list = []
        for _ in range(rng.choice((30, 990, 5000))):
            nested = [nested]
        return nested
    plain = (None, True, 0, -1, 2.5, 1e308, float("nan"), float("inf"), 10**400, "", "2.0", "blur", b"blur", 3j)
    if depth == 0 or rng.random() < 0.6:
        return rng.choice(plain)
    items = [_thing(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.5:
        return items
    return dict(zip(rng.sample(["type", "values", "sigma", 0, None, "a", (1,)], len(items)), items, strict=True))


def _right(rng: random.Random, world: Taxonomy, _) -> str:
    truth = _degradation(rng, world)
    if rng.random() < 0.5:
        return write(truth, world, rng.random() < 0.5)
    around = rng.choice([("", ""), ("So: ", "."), ("```json\n", "\n```"), ('{"answer": ', "}"), ("{x} ", " {")])
    return json.dumps(truth.as_dict()).join(around)


def _mutated(rng: random.Random, world: Taxonomy, tokens: list[str]) -> str:
    text = _right(rng, world, tokens)
    for _ in range(rng.randint(1, 5)):
        at, cut = rng.randint(0, len(text)), rng.choice((0, 0, 1, 1, 3, 20))
        noise = "".join(rng.choices(ALPHABET, k=rng.randint(0, 3)))
        piece = rng.choice((_scrap(rng, tokens), noise, text[at : at + 30]))
        text = text[:at] + piece + text[at + cut :]
    return text


def _scraps(rng: random.Random, _, tokens: list[str]) -> str:
    return "".join(_scrap(rng, tokens) for _ in range(rng.randint(0, 30)))


def _noise(rng: random.Random, *_) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choices(ALPHABET, k=rng.randint(0, 200)))
    return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(0, 60)))


def _repeated(rng: random.Random, _, tokens: list[str]) -> str:
    """One or two pieces over and over, up to and past the longest that is looked at."""
    longest = MAX_CHARACTERS if rng.random() < 0.9 else reading.MAX_CHARACTERS + 10
    unit = "".join(_scrap(rng, tokens) for _ in range(rng.randint(1, 3))) or "["
    length = rng.randint(0, longest)
    return _scrap(rng, tokens) + (unit * (length // len(unit)))[:length]


def _scrap(rng: random.Random, tokens: list[str]) -> str:
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(tokens)
    if draw < 0.9:
        return rng.choice(SCRAPS)
    return rng.choice(ALPHABET)
