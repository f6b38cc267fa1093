"""Changes the number of reward actors of a running job: `duvlm scale` puts a request into the job's mailbox.

A job reads its mailbox until it ends:

    asyncio.create_task(scaling.apply_requests(scaling.open_mailbox(config, job), pool))
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from configs.errors import UserError
from configs.load import run_folder
from configs.schema import Config

NAMESPACE = "duvlm"
POOL = "pool:"
"""Precedes the name of a shared pool's actor; mailboxes are named by absolute paths."""
MAX_ACTORS = 4096
"""Reward actors a pool may have."""


@dataclass(frozen=True)
class ScaleRequest:
    """Asks for a number of reward actors: exactly `fewest` where both are equal, else between them as the load asks."""

    fewest: int
    most: int

    def __str__(self) -> str:
        return str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"


class Scalable(Protocol):
    """A pool that can grow and shrink while it works."""

    async def resize(self, actors: int) -> None: ...

    def autoscale(self, fewest: int, most: int) -> None: ...


class ScalingMailbox:
    """Holds the requests that a job has not read yet; a Ray actor named after the run's folder, ending with its job."""

    def __init__(self):
        self._requests: asyncio.Queue[ScaleRequest] = asyncio.Queue()

    async def put(self, request: ScaleRequest) -> None:
        self._requests.put_nowait(request)

    async def get(self) -> ScaleRequest:
        """Waits for the next request and returns it."""
        return await self._requests.get()


def parse_request(text: str) -> ScaleRequest:
    """Reads `N` or `MIN:MAX`. Raises UserError where that is no number of actors."""
    fewest, _, most = text.partition(":")
    numbers = [fewest, most] if ":" in text else [fewest, fewest]
    digits = all(number.isascii() and number.isdigit() for number in numbers)
    if not digits or not 1 <= int(numbers[0]) <= int(numbers[1]) <= MAX_ACTORS:
        raise UserError(f"scale: expected N or MIN:MAX, from 1 to {MAX_ACTORS} reward actors, got {text!r}")
    return ScaleRequest(*map(int, numbers))


def open_mailbox(config: Config, job: str):
    """Starts the mailbox of this job; the process must be connected. Reserves nothing, and outlives its node."""
    import ray

    name = str(run_folder(config, job).absolute())
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}
    return ray.remote(ScalingMailbox).options(**options).remote()


async def apply_requests(mailbox, pool: Scalable) -> None:
    """Scales `pool` whenever somebody asks for it, until cancelled; what the cluster cannot hold is printed."""
    from ray.exceptions import RayActorError, RayError

    while True:
        try:
            request = await mailbox.get.remote()
        except RayActorError:  # its node is lost: Ray starts it on another
            await asyncio.sleep(1)
            continue
        print(f"reward actors: {request}, as `duvlm scale` asks", flush=True)
        try:
            if request.fewest == request.most:
                await pool.resize(request.fewest)
            else:
                pool.autoscale(request.fewest, request.most)
        except (UserError, RayError) as error:  # no room, or an actor died while it started: later requests still count
            print(f"reward actors: {error}", flush=True)


def scale_rewards(request: ScaleRequest, run: str = "") -> str:
    """Sends the request to the running job whose folder ends in the path `run`; returns its folder.

    Raises:
        UserError: no running job, or several and `run` does not say which; or it ends just now.
    """
    import ray
    from ray.exceptions import RayError

    from configs.cluster.connect import DEADLINE, connect

    connect()
    running = [name for name in _actor_names() if not name.startswith(POOL)]
    matching = [folder for folder in running if ends_in(folder, run)]
    if len(matching) != 1:
        raise UserError(
            f"scale: expected one running job{f' whose folder ends in {run!r}' if run else ''}, found "
            f"{', '.join(matching or running) or 'none'}; say which with --run"
        )
    (folder,) = matching
    try:
        ray.get(ray.get_actor(folder, namespace=NAMESPACE).put.remote(request), timeout=DEADLINE)
    except (ValueError, RayError):  # there is no such actor any more; it died; or it does not answer
        raise UserError(
            f"scale: {folder} did not take the request within {DEADLINE:g} s: its job has ended, or is ending; see "
            "`duvlm status`"
        ) from None
    return folder


def ends_in(folder: str, run: str) -> bool:
    """Tells whether the last names of the path `folder` are those of `run`; all end in an empty one."""
    names, last = PurePath(folder).parts, PurePath(run).parts
    return names[len(names) - len(last) :] == last


def pools() -> list[str]:
    """Lists the shared pools of the cluster that this process is connected to."""
    return sorted(name.removeprefix(POOL) for name in _actor_names() if name.startswith(POOL))


def _actor_names() -> list[str]:
    """Lists the named actors of this project."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in named if actor["namespace"] == NAMESPACE]
