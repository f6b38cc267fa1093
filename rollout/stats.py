"""What the rollout engines did, in numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class RolloutStats:
    """Totals since the start.

    busy_seconds: time with work in hand, restart_seconds: time not there, summed over the engines.
    sampling_seconds: time in which somebody was sampling.
    """

    groups: int = 0
    completions: int = 0
    tokens: int = 0
    busy_seconds: float = 0.0
    sampling_seconds: float = 0.0
    restart_seconds: float = 0.0
    restarts: int = 0
    updates: int = 0
    update_seconds: float = 0.0
    update_bytes: int = 0


class BusyClock:
    """Seconds in which at least one thing was in hand."""

    def __init__(self):
        self._inside, self._since, self._total = 0, 0.0, 0.0

    def __enter__(self) -> None:
        if not self._inside:
            self._since = time.monotonic()
        self._inside += 1

    def __exit__(self, *error) -> None:
        self._inside -= 1
        if not self._inside:
            self._total += time.monotonic() - self._since

    @property
    def seconds(self) -> float:
        return self._total + (time.monotonic() - self._since if self._inside else 0.0)
