"""What actors and pools tell of themselves. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from reward_actors.autoscale import Scaling


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
        return Report(
            self.busy + other.busy, self.denoiser + other.denoiser, self.image_steps + other.image_steps
        )


IDLE = Report()


@dataclass(frozen=True)
class PoolStats:
    """What a pool has done since it started.

    asked = memo_hits + shared + the queries that became work; scored and failed count the latter's ends.
    shared: answered by the same query already under way. busy: seconds at work, by actor name.
    occupied, restarting: seconds, summed over actors, in which they held a query, or were being started again.
    scalings: what the autoscaler did lately.
    """

    asked: int
    memo_hits: int
    shared: int
    scored: int
    failed: int
    restarts: int
    actors: int
    queued: int
    in_flight: int
    queue_age: float
    occupied: float
    restarting: float
    image_steps: int
    denoiser_seconds: float
    busy: dict[str, float]
    scalings: tuple[Scaling, ...]
