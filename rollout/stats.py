"""Counts what the rollout engines did."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class RolloutStats:
    """Holds totals since the start of a pool.

    Args:
        busy_seconds: time with prompts in flight, summed over the engines.
        sampling_seconds: time in which somebody was sampling.
        restart_seconds: time in which an engine was not there, summed over the engines.
    """

    groups: int = 0
    completions: int = 0
    tokens: int = 0
    busy_seconds: float = 0.0
    sampling_seconds: float = 0.0
    restart_seconds: float = 0.0
    restarts: int = 0
    updates: int = 0
    update_bytes: int = 0


class BusyClock:
    """Measures the seconds in which at least one block was inside it."""

    def __init__(self):
        self._inside = 0
        self._since = 0.0
        self._total = 0.0

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
        """Seconds up to now, an unfinished stretch included."""
        return self._total + (time.monotonic() - self._since if self._inside else 0.0)
