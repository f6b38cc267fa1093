"""The one lock of an engine: it keeps sampling and weight updates apart, so no group mixes two sets of weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class UpdateLock:
    """Lets many requests sample, or one update change the weights, never both.

    The update side is a pair of calls, `begin_update` and `end_update`, because an update spans several calls of the
    engine's actor. Who asks to sample in between waits.
    """

    def __init__(self):
        self._sampling = 0
        self._updating = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Holds updates back while one request is inside; waits first for an update under way."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._updating)
            self._sampling += 1
        try:
            yield
        finally:
            async with self._changed:
                self._sampling -= 1
                self._changed.notify_all()

    async def begin_update(self) -> None:
        """Holds back new requests and returns once those inside are done."""
        async with self._changed:
            self._updating = True
            await self._changed.wait_for(lambda: self._sampling == 0)

    async def end_update(self) -> None:
        """Lets requests in again."""
        async with self._changed:
            self._updating = False
            self._changed.notify_all()
