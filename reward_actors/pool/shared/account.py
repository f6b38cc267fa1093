"""What a pool knows of one client."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter

from reward_actors.pool.stats import Counts

BOUND = 4096
"""Queries of one client queued or under way at once; what it brings beyond waits outside."""


class Account:
    """room: for queries. gone: it waits for nothing any more. A client that comes again has another account, with
    another `name`."""

    def __init__(self, client: str):
        self.client, self.name, self.gone = client, uuid.uuid4().hex, False
        self.room = asyncio.Semaphore(BOUND)
        self._counts: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """Adds one to a field of `Counts`."""
        self._counts[name] += 1

    @property
    def counts(self) -> Counts:
        return Counts(**self._counts)
