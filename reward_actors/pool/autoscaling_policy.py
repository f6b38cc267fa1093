"""How many reward actors there should be: a pure function, so that it can be tested without a cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Load:
    """Describes what the pool has seen lately.

    Attributes:
        queue_age: seconds the oldest query has waited.
        busy: share of the actors' time in which they held a query, 0 .. 1.
        arrivals: new queries a second.
        service: seconds of work per query (one actor, at full batch).
    """

    queue_age: float
    busy: float
    arrivals: float
    service: float


@dataclass(frozen=True)
class Limits:
    """Sets when a pool grows and shrinks. Between the two thresholds nothing happens: that is the hysteresis.

    Attributes:
        fewest, most: actors.
        patience: seconds; a queue older than that grows the pool.
        idle: share of their time, 0 .. 1; actors that are busy less than that for `calm` seconds shrink it.
        headroom: multiplies the number of actors that the arrivals need.
    """

    fewest: int = 1
    most: int = 8
    patience: float = 5.0
    idle: float = 0.5
    calm: float = 30.0
    headroom: float = 1.25


@dataclass(frozen=True)
class Scale:
    """Holds the number of actors wanted, and since when the pool has been calm, in seconds (None: it is not)."""

    actors: int
    calm_since: float | None = None


@dataclass(frozen=True)
class Scaling:
    """Records one decision, `seconds` after autoscaling began. trouble: why the pool could not follow, if so."""

    seconds: float
    before: int
    after: int
    load: Load
    trouble: str = ""


def rescale(scale: Scale, load: Load, now: float, limits: Limits) -> Scale:
    """Returns the next scale, at `now` seconds. Growing is quick, at most twofold; shrinking is slow, one by one."""
    needed = math.ceil(load.arrivals * load.service * limits.headroom)
    if load.queue_age > limits.patience:
        grown = min(max(needed, scale.actors + 1), 2 * scale.actors)
        return Scale(_within(grown, limits))
    if load.busy >= limits.idle or scale.actors <= max(needed, limits.fewest):
        return Scale(_within(scale.actors, limits))
    since = now if scale.calm_since is None else scale.calm_since
    if now - since < limits.calm:
        return replace(scale, calm_since=since)
    return Scale(_within(scale.actors - 1, limits), calm_since=now)


def _within(actors: int, limits: Limits) -> int:
    return min(max(actors, limits.fewest), limits.most)
