"""`async with` for what has `start` and `close`: the pools, on a Ray cluster that is started where none is there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import Self

from configs.cluster.connect import cluster


class Lifetime(ABC):
    """Starts a pool for the time of an `async with` block.

    A process that is connected to no Ray cluster joins the one at $RAY_ADDRESS, or starts a local one, and leaves it
    at the end of the block.
    """

    @abstractmethod
    async def start(self) -> None:
        """Returns when the pool answers."""

    @abstractmethod
    async def close(self) -> None:
        """Stops what `start` has started."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(cluster())
            stack.push_async_callback(self.close)
            await self.start()
            self._end = stack.pop_all()
        return self

    async def __aexit__(self, *_) -> None:
        await self._end.aclose()
