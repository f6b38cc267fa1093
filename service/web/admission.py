"""Decides what the service takes on: bodies that arrive fast enough, and so many requests at once.

Knows neither pools nor pictures. A body is received before a slot is taken, so senders who dawdle keep nobody out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
SLOTS = 16
"""Requests that are worked on at once; who comes later is asked to come again."""
SECONDS = 300.0
"""A request whose work takes longer is given up."""
MAX_BYTES = 16 * 2**20
"""The largest body."""
MAX_BUFFERED = 256 * 2**20
"""Bytes of all bodies that are being received."""
GRACE, RATE = 5.0, 16 * 2**10
"""A sender has this many seconds, and one more for each so many bytes it has sent."""


class NoRoomError(RuntimeError):
    """Too many requests are under way."""


class TooLargeError(ValueError):
    """A body is larger than `MAX_BYTES`."""


class TooSlowError(TimeoutError):
    """A body arrives at less than `RATE`."""


class Admission:
    """Receives bodies and hands out slots. under_way: how many requests are worked on."""

    def __init__(self, slots: int = SLOTS, grace: float = GRACE):
        self.under_way, self._slots, self._grace, self._buffered = 0, slots, grace, 0
        self._working: set[asyncio.Future] = set()  # an event loop forgets what nobody refers to

    async def receive(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Collects a body.

        Raises:
            TooLargeError: it is larger than `MAX_BYTES`. What follows is read for a while and dropped, so that the
                sender hears why.
            TooSlowError: it arrives too slowly.
            NoRoomError: too many bodies are arriving.
        """
        body, received, started = bytearray(), 0, time.monotonic()
        problem: Exception | None = None
        try:
            while True:
                left = self._grace + received / RATE - (time.monotonic() - started)
                try:
                    chunk = await asyncio.wait_for(anext(chunks), max(left, 0.001))
                except StopAsyncIteration:
                    break
                received += len(chunk)
                if not problem and len(body) + len(chunk) > MAX_BYTES:
                    problem = TooLargeError(f"at most {MAX_BYTES // 2**20} MiB")
                elif not problem and self._buffered + len(chunk) > MAX_BUFFERED:
                    problem = NoRoomError("too many pictures are arriving; come again in a few seconds")
                if problem and received > 4 * MAX_BYTES:
                    break
                if not problem:
                    body += chunk
                    self._buffered += len(chunk)
        except TimeoutError:
            raise problem or TooSlowError(f"expected at least {RATE // 2**10} KiB a second") from None
        finally:
            self._buffered -= len(body)
        if problem:
            raise problem
        return bytes(body)

    async def work(self, start: Callable[[], Awaitable[T]], seconds: float = SECONDS) -> T:
        """Returns `await start()`, done in a slot.

        Waiting can be given up, work in a pool cannot: the slot is free again when the work has ended, whoever still
        waits for it.

        Raises:
            NoRoomError: every slot is taken.
            TimeoutError: it takes longer than `seconds`.
        """
        if self.under_way >= self._slots:
            raise NoRoomError(f"{self._slots} requests are under way already; come again in a few seconds")
        self.under_way += 1
        working = asyncio.ensure_future(start())
        self._working.add(working)
        working.add_done_callback(self._leave)
        async with asyncio.timeout(seconds):
            return await asyncio.shield(working)

    def _leave(self, working: asyncio.Future) -> None:
        self._working.discard(working)
        self.under_way -= 1
        if not working.cancelled():
            working.exception()  # seen, where nobody waits for it any more
