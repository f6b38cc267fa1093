"""What actors and pools tell of themselves. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reward_actors.pool.autoscaling_policy import Scaling


@dataclass(frozen=True)
class Ready:
    """An actor has loaded its prior.

    fingerprint: of all that shapes a score. rows: how many restorations it steps together.
    """

    fingerprint: str
    pid: int
    rows: int


@dataclass(frozen=True)
class Report:
    """What an actor has done since it started: seconds at work, seconds in the denoiser, image-steps."""

    busy: float = 0.0
    denoiser: float = 0.0
    image_steps: int = 0

    def __add__(self, other: Report) -> Report:
        return Report(self.busy + other.busy, self.denoiser + other.denoiser, self.image_steps + other.image_steps)


IDLE = Report()
SUMS = ("restarts", "occupied", "restarting", "image_steps", "denoiser_seconds")
"""Fields of `PoolStats` that only grow, over all its actors; `busy` does too."""


@dataclass(frozen=True)
class Counts:
    """What became of queries. asked = memo_hits + shared + those that became work; scored and failed count the latter's
    ends. shared: answered by the same query already under way."""

    asked: int = 0
    memo_hits: int = 0
    shared: int = 0
    scored: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__dataclass_fields__))


@dataclass(frozen=True)
class PoolStats(Counts):
    """What a pool has done since it started.

    busy: seconds at work, by actor name; of those that left under one name.
    occupied, restarting: seconds, summed over actors, in which they held a query, or were being started again.
    scalings: what the autoscaler did lately. clients: the counts of each that is there; waiting: what it has queued.
    """

    restarts: int = 0
    actors: int = 0
    queued: int = 0
    in_flight: int = 0
    queue_age: float = 0.0
    occupied: float = 0.0
    restarting: float = 0.0
    image_steps: int = 0
    denoiser_seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    scalings: tuple[Scaling, ...] = ()
    clients: dict[str, Counts] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    def after(self, earlier: PoolStats) -> PoolStats:
        """These, with the sums over actors going on from those of a pool before this one."""
        sums = {name: getattr(self, name) + getattr(earlier, name) for name in SUMS}
        names = {*self.busy, *earlier.busy}
        return replace(self, **sums, busy={name: self.busy.get(name, 0) + earlier.busy.get(name, 0) for name in names})
