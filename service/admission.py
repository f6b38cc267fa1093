"""How many requests are under way at once, and how long each may take. Knows neither HTTP nor pools."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
AT_ONCE = 16
"""Requests under way at once; who comes later is asked to come again."""
SECONDS = 120.0
"""A request that takes longer is given up."""


class NoRoomError(RuntimeError):
    """Too many requests are under way."""


class Room:
    """Places for requests. under_way: how many are taken."""

    def __init__(self, places: int = AT_ONCE):
        self.under_way, self._places = 0, places
        self._working: set[asyncio.Future] = set()  # an event loop forgets what nobody refers to

    async def admit(
        self, receive: Callable[[], Awaitable[bytes]], work: Callable[[bytes], Awaitable[T]], seconds: float = SECONDS
    ) -> T:
        """`await work(await receive())`, in `seconds` for both.

        The place is taken before anything is received. Waiting can be given up, work in a pool cannot: the place is
        free again when the work has ended, whoever still waits for it.

        Raises:
            NoRoomError: every place is taken.
            TimeoutError: it takes longer.
        """
        if self.under_way >= self._places:
            raise NoRoomError(f"{self._places} requests are under way already; come again in a few seconds")
        self.under_way += 1
        working = None
        try:
            async with asyncio.timeout(seconds):
                received = await receive()
                working = asyncio.ensure_future(work(received))
                self._working.add(working)
                working.add_done_callback(self._leave)
                return await asyncio.shield(working)
        finally:
            if working is None:
                self.under_way -= 1

    def _leave(self, working: asyncio.Future) -> None:
        self._working.discard(working)
        self.under_way -= 1
