"""The records in which actors and pools report what they have done. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reward_actors.pool.autoscaling_policy import Scaling


@dataclass(frozen=True)
class Ready:
    """Tells the pool that the actor in process `pid` has loaded its prior.

    Attributes:
        fingerprint: changes with all that shapes a score.
        rows: how many restorations it steps together.
    """

    fingerprint: str
    pid: int
    rows: int


@dataclass(frozen=True)
class Report:
    """Sums up what an actor has done since it started.

    Attributes:
        busy, denoiser: seconds at work, and of these in the denoiser.
        image_steps: steps of the denoiser, times pictures in each.
        occupied: seconds in which it held a query; the pool fills it in.
        peak: seconds that the denoiser's work would take at the peak of its device.
    """

    busy: float = 0.0
    denoiser: float = 0.0
    image_steps: int = 0
    occupied: float = 0.0
    peak: float = 0.0

    def __add__(self, other: Report) -> Report:
        return Report(*(getattr(self, name) + getattr(other, name) for name in Report.__dataclass_fields__))


IDLE = Report()
SUMS = ("restarts", "occupied", "restarting", "image_steps", "denoiser_seconds", "peak_seconds")
"""Fields of `PoolStats` that only grow, over all its actors; `busy` does too."""


@dataclass(frozen=True)
class Counts:
    """Counts what became of queries: asked = memo_hits + shared + those that became work.

    Attributes:
        memo_hits: answered from memory.
        shared: answered by the same query already under way.
        scored, failed: how those that became work have ended.
    """

    asked: int = 0
    memo_hits: int = 0
    shared: int = 0
    scored: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__dataclass_fields__))


@dataclass(frozen=True)
class PoolStats(Counts):
    """Sums up what a pool has done since it started, and how it stands; the counts are those of all clients.

    Attributes:
        restarts, restarting: actors started in place of dead ones, and the seconds that took.
        actors, queued, in_flight: actors that take work now, queries that wait, queries that are in an actor.
        queue_age: seconds the oldest query has waited.
        occupied, image_steps, denoiser_seconds, peak_seconds: as in `Report`, summed over actors.
        busy: seconds at work, by actor name; of those that left under one name.
        scalings: what the autoscaler did lately.
        clients, waiting: the counts of each client that is there, and how many of its queries are queued.
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
    peak_seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    scalings: tuple[Scaling, ...] = ()
    clients: dict[str, Counts] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    def after(self, earlier: PoolStats) -> PoolStats:
        """Returns these, with the sums over actors going on from those of a pool before this one."""
        sums = {name: getattr(self, name) + getattr(earlier, name) for name in SUMS}
        names = {*self.busy, *earlier.busy}
        return replace(self, **sums, busy={name: self.busy.get(name, 0) + earlier.busy.get(name, 0) for name in names})
