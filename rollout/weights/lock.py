"""Keeps sampling and weight updates of one engine apart: no group is sampled with two sets of weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class UpdateGate:
    """Many may sample, or one may update. Who comes after `close` waits until `open`."""

    def __init__(self):
        self._sampling, self._closed, self._changed = 0, False, asyncio.Condition()

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Around one request."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._closed)
            self._sampling += 1
        try:
            yield
        finally:
            async with self._changed:
                self._sampling -= 1
                self._changed.notify_all()

    async def close(self) -> None:
        """Lets nobody in any more, and waits until those inside are done."""
        async with self._changed:
            self._closed = True
            await self._changed.wait_for(lambda: self._sampling == 0)

    async def open(self) -> None:
        async with self._changed:
            self._closed = False
            self._changed.notify_all()
