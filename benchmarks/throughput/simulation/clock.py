"""Runs asyncio in virtual time: whenever nothing is left to do at present, it is the time of the next timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without files or sockets, whose `time()` begins at 0 and jumps. Its work is all in this process."""

    def __init__(self):
        super().__init__()
        self._now, self._selector = 0.0, self  # the base class waits for its next timer by `_selector.select`

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> tuple:
        """Jumps `timeout` seconds ahead. Raises RuntimeError where all wait for each other."""
        if timeout is None:
            raise RuntimeError("nothing will ever happen again in virtual time")
        self._now += timeout
        return ()

    def run_in_executor(self, executor: Any, func: Callable, *arguments: Any) -> asyncio.Future:
        """Calls `func` here and now; where that gives a coroutine, the thread it stands for takes as long as that."""
        result = func(*arguments)
        if asyncio.iscoroutine(result):
            return self.create_task(result)
        future = self.create_future()
        future.set_result(result)
        return future

    def _process_events(self, events: tuple) -> None:
        """Does nothing: `select` finds no events."""

    def _write_to_self(self) -> None:
        """Does nothing: nobody calls from another thread."""
