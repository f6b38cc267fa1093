"""What a job is told by a pool that others share."""

from __future__ import annotations

from dataclasses import replace

from reward_actors.pool.stats import Counts, PoolStats

NONE = Counts()


class Told:
    """`PoolStats` whose counts are the job's own. Counts and sums never fall: they go on where another pool takes the
    place of the first, or where the pool has forgotten the job and opens another account for it."""

    def __init__(self):
        self._pool, self._before = PoolStats(), PoolStats()
        self._counts: dict[str, Counts] = {}

    def hear(self, stats: PoolStats) -> None:
        """What the present pool says of itself."""
        self._pool = stats

    def change(self) -> None:
        """From now on another pool speaks."""
        self._before, self._pool = self.stats(), PoolStats()

    def count(self, account: str, counts: Counts) -> None:
        """What became of the queries of one account; what is told late changes nothing."""
        known = self._counts.get(account, NONE)
        self._counts[account] = max(known, counts, key=lambda told: sum(vars(told).values()))

    def stats(self) -> PoolStats:
        return replace(self._pool.after(self._before), **vars(sum(self._counts.values(), NONE)))
