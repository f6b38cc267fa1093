"""Tasks for which nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Background:
    """Holds tasks until they end: the event loop itself would let them be collected on the way."""

    def __init__(self):
        self._tasks: set[asyncio.Task] = set()

    def spawn(self, work: Coroutine) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """Ends all; returns when they have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
