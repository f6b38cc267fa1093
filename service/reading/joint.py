"""Reads one answer off several views of a photograph.

First each view is answered by itself; the types that come up are then weighed by all views, and the numbers of the one
that wins are read one after the other, each from the views that show it. Nothing here runs a policy: the steps yield
questions (`Look`, `Write`, ...) that a network in this process or an engine elsewhere answers, all views at once.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from envs.degradations import NONE, OWNERS, PHENOMENA
from envs.degradations.base import Key
from envs.language.answer import shaped, write
from envs.language.posterior import interval, pooled
from envs.language.reading import read_text
from envs.language.vocabulary import NEGLIGIBLE
from envs.taxonomy import Degradation, DegradationType
from service.pixels import to_photo
from service.reading.questions import Language, Look, Next, Question, Reading, Score, Steps, Write
from service.reading.views import View, views_of

BELIEF = 0.1
"""A view has a say in the numbers of a type if it believes in it at least so much as the view that does so most."""
COMFORTABLE = 0.25
"""Share of a key's range up to which a length in pixels is read well: training hardly has longer ones."""
RAREST = 1e-6
"""Probability of a type below which a view is not taken at its word."""


def read_photo(photo: np.ndarray, size: int, language: Language, seed: int = 0) -> Generator[Question, Any, Reading]:
    """Reads a photograph, uint8 (H, W, 3), for a policy whose world has `size` px a side.

    What is read off pieces at the photograph's own scale and turns out to be large there (a blur of 8 px in pieces of
    128) is read again off pieces of a larger part, reduced, until it is small enough to be read well.

    seed: of numbers that are drawn.
    """
    reduction, views = 1, views_of(photo, size)
    yield Look(views)
    reading = yield from read(views, language, seed)
    while len(views) > 1 and (large := _large(reading, reduction, language)):
        reduction *= 2
        views = views_of(photo, size, reduction)
        if len(views) == 1:
            break
        yield Look(views)
        closer = yield from read(views, language, seed)
        if closer.degradation is None or not large <= set(dict(closer.degradation.values)):
            break
        reading = _with_numbers_of(reading, closer, large)
    return reading


def _large(reading: Reading, reduction: int, language: Language) -> set[str]:
    """The keys whose values take more than `COMFORTABLE` of their range in pieces that were reduced so many times."""
    values = reading.degradation.values if reading.degradation else ()
    keys = {name: language.taxonomy.keys[name] for name, _ in values}
    measured = {name for name, key in keys.items() if key.in_pixels and not key.is_class}
    return {name for name, value in values if name in measured and value > COMFORTABLE * keys[name].high * reduction}


def _with_numbers_of(reading: Reading, other: Reading, keys: set[str]) -> Reading:
    """The reading with the values and intervals that another one has for these keys."""
    values = tuple((key, other.degradation[key] if key in keys else value) for key, value in reading.degradation.values)
    intervals = {key: (other if key in keys else reading).intervals[key] for key in reading.intervals}
    return replace(reading, degradation=Degradation(reading.degradation.type, values), intervals=intervals)


def read(views: Sequence[View], language: Language, seed: int = 0) -> Generator[Question, Any, Reading]:
    """Reads a photograph off the views that are shown, the whole first; a single one as its answer stands."""
    written = yield Write()
    texts = [language.decode(ids) for ids in written]
    readings = [read_text(text, language.taxonomy) for text in texts]
    if all(each.degradation is None for each in readings):
        return Reading(None, texts[0], readings[0].reason)
    proposals = {each.degradation.type: ids for each, ids in zip(readings, written, strict=True) if each.degradation}
    if NONE in language.taxonomy:
        proposals.setdefault(NONE, language.encode(f"[T-{NONE}]"))
    beliefs, announced = yield from _beliefs(proposals, views, language)
    sources = {name: type_sources(language.taxonomy[name], views) for name in proposals}
    chances = pool_types(beliefs, sources)
    if len(views) == 1:
        degradation = readings[0].degradation
        intervals = yield from _intervals_as_written(written[0], language)
        for key in intervals:
            intervals[key] = _in_pixels(language.taxonomy.keys[key], intervals[key], views[0].ratio)
        return Reading(to_photo(degradation, views[0].ratio), texts[0], "", intervals, chances[degradation.type])
    kind = language.taxonomy[max(chances, key=chances.get)]
    believed = beliefs[kind.name]
    least = believed[sources[kind.name]].max() + np.log(BELIEF)
    believers = [view for view in sources[kind.name] if believed[view] >= least]
    values, intervals = yield from _numbers(kind, announced[kind.name], views, believers, language, seed)
    ratio = views[-1].ratio
    degradation = language.taxonomy.degradation(kind.name, values)
    intervals = {key: _in_pixels(language.taxonomy.keys[key], ends, ratio) for key, ends in intervals.items()}
    text = write(degradation, language.taxonomy, language.rationale, views[0].picture)
    return Reading(to_photo(degradation, ratio), text, "", intervals, chances[kind.name])


def type_sources(kind: DegradationType, views: Sequence[View]) -> list[int]:
    """Lists the views by which a type is judged: pieces at native scale if a part of it shows in these alone."""
    everywhere = all(part.shows_when_reduced for part in kind.phenomena)
    return [i for i, view in enumerate(views) if everywhere or not view.whole or len(views) == 1]


def key_sources(key: Key, views: Sequence[View], believers: Sequence[int]) -> list[int]:
    """Lists the views from which a number is read: the whole for what is laid out over the picture, pieces for what
    counts pixels or shows in them alone, else both; those of them that believe in the type, if there are any."""
    if key.over_picture and key.shape:
        fitting = [i for i, view in enumerate(views) if view.whole]
    elif key.in_pixels or not PHENOMENA[OWNERS[key.name]].shows_when_reduced:
        fitting = [i for i, view in enumerate(views) if not view.whole]
    else:
        fitting = list(range(len(views)))
    return [i for i in fitting if i in believers] or fitting


def pool_types(beliefs: Mapping[str, np.ndarray], sources: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Combines what the views believe into the probability of each type.

    Each type has the geometric mean of its probability over the views that show it; what no type has been named for
    counts as one more.

    Args:
        beliefs: {type: float64 (V,), log-probability of the type to each view}.
        sources: {type: the views by which it is judged}.
    """
    floored = {name: np.maximum(logs, np.log(RAREST)) for name, logs in beliefs.items()}
    mass = {name: float(np.exp(logs[list(sources[name])].mean())) for name, logs in floored.items()}
    others = 1 - sum(np.exp(logs) for logs in beliefs.values())
    rest = float(np.exp(np.log(np.maximum(others, RAREST)).mean()))
    total = sum(mass.values()) + rest
    return {name: chance / total for name, chance in mass.items()}


def _beliefs(proposals: Mapping[str, Sequence[int]], views: Sequence[View], language: Language) -> Steps:
    """What every view believes of each type: its log-probability, summed over the words that may announce it.

    proposals: {type: an answer of this type}.

    Returns:
        {type: float64 (V,)} and {type: the announcement that all views together find likeliest}.
    """
    drafts, owners, places = [], [], []
    for name, ids in proposals.items():
        tokens = list(ids[next((i for i, token in enumerate(ids) if token in language.types), 0) :])
        for words in language.announcements(language.taxonomy[name], views):
            drafts.append([*words, *tokens, language.end])
            owners.append((name, words))
            named = [len(words) + i for i, token in enumerate(tokens) if token in language.types]
            places.append([*range(len(words)), *named, len(drafts[-1]) - 1])
    scores = yield Score(drafts)
    logs = np.array([[log[where].sum() for log, where in zip(view, places, strict=True)] for view in scores])
    beliefs, announced = {}, {}
    for name in proposals:
        columns = [i for i, owner in enumerate(owners) if owner[0] == name]
        beliefs[name] = np.logaddexp.reduce(logs[:, columns], axis=1)
        announced[name] = owners[columns[int(logs[:, columns].mean(0).argmax())]][1]
    return beliefs, announced


def _openings(views: Sequence[int], begun: Sequence[int], language: Language) -> Steps:
    """(probability, tokens) of every severity that may take the place of the first word of an answer, of each view."""
    length = language.tokens.opening(begun)
    if not length:
        return {view: [(1.0, ())] for view in views}, 0
    logs = yield Next(views, [[[]]] * len(views))
    openings = {}
    for view, log in zip(views, logs, strict=True):
        chances = np.exp(log[0][[word[0] for word in language.tokens.severities]])
        chances[chances < NEGLIGIBLE * chances.max()] = 0
        pairs = zip(chances / chances.sum(), language.tokens.severities, strict=True)
        openings[view] = [(float(chance), word) for chance, word in pairs if chance]
    return openings, length


def _densities(key: str, prefixes: Mapping[int, Sequence[int]], openings: Mapping, language: Language) -> Steps:
    """float64 (views, key.bins): what comes next on the grid of a key, the severity in words summed over.

    prefixes: {view: what it is told to have written, without the severity}.
    """
    views, grid = list(prefixes), list(language.tokens.values[key])
    logs = yield Next(views, [[[*word, *prefixes[view]] for _, word in openings[view]] for view in views])
    densities = []
    for view, log in zip(views, logs, strict=True):
        weights = np.array([weight for weight, _ in openings[view]])
        density = weights @ np.exp(log[:, grid])
        densities.append(density / density.sum())
    return np.array(densities)


def _intervals_as_written(written: Sequence[int], language: Language) -> Steps:
    """Intervals of the numbers of an answer to a single view, {key: (low, high)}, in its pixels."""
    openings, length = yield from _openings([0], written, language)
    ends: dict[str, list] = {}
    for place in language.tokens.places(written):
        prefix = {0: written[length : place.position]}
        (density,) = yield from _densities(place.key, prefix, openings, language)
        ends.setdefault(place.key, []).append(interval(language.taxonomy.keys[place.key], density))
    return {key: _flat(pairs) for key, pairs in ends.items()}


def _numbers(
    kind: DegradationType,
    words: Sequence[int],
    views: Sequence[View],
    believers: Sequence[int],
    language: Language,
    seed: int,
) -> Steps:
    """Values and intervals of a type, {key: value} and {key: (low, high)}, in the pixels of the pieces."""
    rng, everyone = np.random.default_rng(seed), range(len(views))
    openings, length = yield from _openings(everyone, words, language)
    drafts = {view: list(words[length:]) for view in everyone}
    values, intervals = {}, {}
    for part in kind.parts:
        for draft in drafts.values():
            draft += language.encode(f"[T-{part}]")
        for key in language.taxonomy[part].keys:
            for draft in drafts.values():
                draft += language.encode(f"[K-{key.name}]")
            sources, numbers, ends = key_sources(key, views, believers), [], []
            for _ in range(key.size):
                prefixes = {view: drafts[view] for view in sources}
                density = pooled(key, (yield from _densities(key.name, prefixes, openings, language)))
                numbers.append(choose(key, density, language.decoding, rng))
                ends.append(interval(key, density))
                for view, draft in drafts.items():
                    ratio = views[-1].ratio / views[view].ratio if key.in_pixels else 1.0
                    draft += language.encode(key.token(numbers[-1] * ratio))
            values[key.name], intervals[key.name] = shaped(numbers, key), _flat(ends)
    return values, intervals


def choose(key: Key, density: np.ndarray, decoding: str, rng: np.random.Generator) -> float:
    """Chooses a number from its density, on the grid, as `rollout.decoding` says."""
    grid = np.array(list(key.grid()))
    if decoding == "sample":
        return float(rng.choice(grid, p=density))
    if decoding == "argmax" or key.is_class:
        return float(grid[density.argmax()])
    if decoding == "mean":
        return key.snap(float(density @ grid))
    return float(grid[min(int((density.cumsum() < 0.5).sum()), len(grid) - 1)])


def _flat(ends: Sequence[tuple[float, float]]) -> tuple:
    """(low, high) of one number; of several, lists of their low and high ends."""
    return ends[0] if len(ends) == 1 else tuple(map(list, zip(*ends, strict=True)))


def _in_pixels(key: Key, ends: tuple, ratio: float) -> tuple:
    """The ends of an interval in pixels of the photograph, where they count pixels at all."""
    if not key.in_pixels:
        return ends
    return tuple([item * ratio for item in end] if isinstance(end, list) else end * ratio for end in ends)
