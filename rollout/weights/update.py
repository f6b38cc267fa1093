"""One weight update: the learner sends, all given engines receive, all change over together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from ray.exceptions import RayActorError

from configs.cluster.supervision import describe_failure
from configs.schema import Config
from rollout.vllm.arguments import gpus_spread_over, transfer_backend
from rollout.weights.manifest import Manifest
from rollout.weights.transfer import Endpoint

GRACE = 30.0  # seconds in which the other participants of a failed update may say why it failed


class WeightSource(Protocol):
    """The learner as the pool sees it: a `WeightSender` in its first rank, and whatever carries the calls."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Around the calls of one update: it waits until the learner has nothing else to do, and keeps it so."""

    async def manifest(self) -> Manifest: ...

    async def bind(self) -> Endpoint:
        """Where the engines will find the sender."""

    async def open(self, world_size: int) -> None: ...

    async def send(self, whole: bool) -> int:
        """Sends the weights, with all ranks that hold a share of them; returns their version.

        whole: the tensors of the manifest with their checksums; otherwise those of `manifest().changing()` alone.
        """


class WeightUpdateError(RuntimeError):
    """New weights did not reach the engines; the message and the cause say why."""


class EngineLostError(RuntimeError):
    """An engine is gone, or does not answer; the message says how it ended."""


LOST = (RayActorError, EngineLostError, TimeoutError)


class WeightUpdate:
    """Runs updates; the transfer group stays open as long as the engines are the same."""

    def __init__(self, config: Config, policy_folder: str):
        self._config, self._folder = config, policy_folder
        self._members: tuple = ()
        self._manifest: Manifest | None = None
        self.bytes = 0  # that the last update sent

    async def run(self, engines: Sequence[Any], source: WeightSource, whole: bool = False) -> int:
        """Brings `engines` (handles of `RolloutActor`) to the source's weights. Returns their version.

        The first update of these engines is `whole`: every tensor is sent, and compared by checksum where it arrives.
        Later ones carry what training changes.

        Raises:
            ValueError: the source's tensors are not those of the policy folder.
            EngineLostError: an engine ended on the way. All of `engines` must be started anew.
            WeightUpdateError: the source could not send, or an engine could not receive.
        """
        async with source.turn():  # an engine's time runs from its call on: none is called before
            return await self._run(engines, source, whole)

    async def _run(self, engines: Sequence[Any], source: WeightSource, whole: bool) -> int:
        if self._manifest is None:
            manifest = await source.manifest()
            manifest.check(self._folder)
            self._manifest = manifest
        members, self._members = self._members, ()  # after a failure the group is opened anew
        if members != tuple(engines):
            await self._open(engines, source)
            whole = True
        manifest = self._manifest if whole else self._manifest.changing()
        await self._together([engine.begin_update.remote() for engine in engines])
        version = await self._together([e.receive.remote(manifest, whole) for e in engines], source.send(whole))
        await self._together([engine.finish_update.remote(version) for engine in engines])
        self._members, self.bytes = tuple(engines), manifest.bytes
        return version

    async def _open(self, engines: Sequence[Any], source: WeightSource) -> None:
        end, workers = await source.bind(), gpus_spread_over(self._config)
        info = {"master_address": end.address, "master_port": end.port, "packed": True}
        info |= {"world_size": 1 + workers * len(engines), "packed_buffer_size_bytes": end.bucket_bytes}
        if transfer_backend(self._config) == "gloo":
            info["timeout"] = self._config.rollout.timeout
        ranks = [info | {"rank_offset": 1 + workers * i} for i in range(len(engines))]
        joining = [e.open_transfer.remote(rank) for e, rank in zip(engines, ranks, strict=True)]
        await self._together(joining, source.open(info["world_size"]))

    async def _together(self, engines: Sequence[Awaitable], source: Awaitable | None = None) -> Any:
        """The source's result once all are done. If one fails, the others get a while to say why."""
        tasks = [asyncio.ensure_future(_answer(each)) for each in engines]
        sending = asyncio.ensure_future(_answer(source)) if source else None
        everyone = [*tasks, sending] if sending else tasks
        limit = self._config.rollout.timeout + GRACE
        await asyncio.wait(everyone, timeout=limit, return_when=asyncio.FIRST_EXCEPTION)
        if any(not task.done() or task.exception() for task in everyone):
            first = [task for task in everyone if task.done() and task.exception()]
            await asyncio.wait(everyone, timeout=GRACE)
            _raise_cause(first + everyone, sending)
        return sending.result() if sending else None


def _raise_cause(tasks: list[asyncio.Task], sending: asyncio.Task | None) -> None:
    """A lost engine is the cause, or else the error that came first, with which `tasks` begin."""
    for task in tasks:
        error = _error(task)
        if task is not sending and isinstance(error, LOST):
            raise EngineLostError(f"a rollout engine was lost in a weight update: {describe_failure(error)}") from error
    cause = next(task for task in tasks if _error(task))
    who = "the learner could not send weights" if cause is sending else "an engine could not take the weights"
    raise WeightUpdateError(f"{who}: {describe_failure(_error(cause))}") from _error(cause)


def _error(task: asyncio.Task) -> BaseException | None:
    if not task.done():
        task.cancel()
        return TimeoutError("no answer in time, it hangs")
    return task.exception()


async def _answer(awaitable: Awaitable) -> Any:
    return await awaitable
