"""The HTTP side of the service over pools that answer at once, for what does not depend on them."""

import asyncio

from configs import load
from envs.taxonomy import TAXONOMY
from service.reader import Reading
from service.web.app import Ingress


class Body:
    """A request that brings these bytes."""

    def __init__(self, content: bytes):
        self._content = content

    async def stream(self):
        yield self._content


class Pools:
    """In place of `Service`: reads a blur of 2 px off every picture, and notes what it is to restore."""

    def __init__(self):
        self.gate, self.restored = asyncio.Event(), []
        self.gate.set()

    async def read(self, picture):
        await self.gate.wait()
        return Reading(TAXONOMY.degradation("blur", {"sigma": 2.0}), "blur")

    async def restore(self, picture, degradation, coding=None):
        self.restored.append((picture.shape, degradation["sigma"]))
        return picture


class Replica(Ingress):
    """The HTTP side over such pools, or over such as did not start."""

    def __init__(self, failure: Exception | None = None):
        super().__init__(load("serve"))
        self._starting.cancel()
        self.service, self._starting = Pools(), asyncio.get_running_loop().create_future()
        self._starting.set_exception(failure) if failure else self._starting.set_result(None)

    def __del__(self):
        """Nothing was started."""
