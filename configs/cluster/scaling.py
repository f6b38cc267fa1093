"""Wishes to a running job: `duvlm scale` leaves one at the job's desk, and the job grants it at once.

wishes = asyncio.create_task(control.grant(control.open_desk(config, job), pool))      # in the job, until it ends
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
"""Before the name of a shared pool's actor; desks are absolute paths."""
MOST = 4096
"""Reward actors a pool may have."""


@dataclass(frozen=True)
class Wish:
    """How many reward actors somebody wants: exactly `fewest` where both are equal, else as the load asks."""

    fewest: int
    most: int

    def __str__(self) -> str:
        return str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"


class Scalable(Protocol):
    """A pool that can grow and shrink while it works."""

    async def resize(self, actors: int) -> None: ...

    def autoscale(self, fewest: int, most: int) -> None: ...


class Desk:
    """Where wishes lie; a Ray actor named after the run's folder, which ends with its job."""

    def __init__(self):
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue()

    async def leave(self, wish: Wish) -> None:
        self._wishes.put_nowait(wish)

    async def take(self) -> Wish:
        """The next wish; waits for one."""
        return await self._wishes.get()


def read_wish(text: str) -> Wish:
    """`N` or `MIN:MAX`. Raises UserError where that is no number of actors."""
    fewest, _, most = text.partition(":")
    numbers = [fewest, most] if ":" in text else [fewest, fewest]
    if not all(n.isascii() and n.isdigit() for n in numbers) or not 1 <= int(numbers[0]) <= int(numbers[1]) <= MOST:
        raise UserError(f"scale: expected N or MIN:MAX, from 1 to {MOST} reward actors, got {text!r}")
    return Wish(*map(int, numbers))


def open_desk(config: Config, job: str):
    """The desk of this job; the process must be connected. Reserves nothing, and outlives its node."""
    import ray

    name = str(run_folder(config, job).absolute())
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": -1}
    return ray.remote(Desk).options(**options).remote()


async def grant(desk, pool: Scalable) -> None:
    """Scales `pool` whenever somebody asks for it; until cancelled. What the cluster cannot hold is said, no more."""
    from ray.exceptions import RayActorError, RayError

    while True:
        try:
            wish = await desk.take.remote()
        except RayActorError:  # its node is lost: Ray starts it on another
            await asyncio.sleep(1)
            continue
        print(f"reward actors: {wish}, as `duvlm scale` asks", flush=True)
        try:
            if wish.fewest == wish.most:
                await pool.resize(wish.fewest)
            else:
                pool.autoscale(wish.fewest, wish.most)
        except (UserError, RayError) as error:  # no room, or an actor died on the way: later wishes are heard
            print(f"reward actors: {error}", flush=True)


def scale_rewards(wish: Wish, run: str = "") -> str:
    """Asks the running job whose folder ends in the path `run` for that many reward actors; returns its folder.

    Raises:
        UserError: no running job, or several and `run` does not say which; or it ends just now.
    """
    import ray
    from ray.exceptions import RayError

    from configs.cluster.connect import DEADLINE, connect

    connect()
    desks = [name for name in _named() if not name.startswith(POOL)]
    found = [name for name in desks if ends_in(name, run)]
    if len(found) != 1:
        raise UserError(
            f"scale: expected one running job{f' whose folder ends in {run!r}' if run else ''}, found "
            f"{', '.join(found or desks) or 'none'}; say which with --run"
        )
    try:
        ray.get(ray.get_actor(found[0], namespace=NAMESPACE).leave.remote(wish), timeout=DEADLINE)
    except (ValueError, RayError):  # there is no such actor any more; it died; or it does not answer
        raise UserError(
            f"scale: {found[0]} did not take the wish within {DEADLINE:g} s: its job has ended, or is ending; see "
            "`duvlm status`"
        ) from None
    return found[0]


def ends_in(folder: str, run: str) -> bool:
    """Whether the last names of the path `folder` are those of `run`; all end in an empty one."""
    names, last = PurePath(folder).parts, PurePath(run).parts
    return names[len(names) - len(last) :] == last


def pools() -> list[str]:
    """The names of the shared pools of the cluster that this process is connected to."""
    return sorted(name.removeprefix(POOL) for name in _named() if name.startswith(POOL))


def _named() -> list[str]:
    """The names of our actors."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in named if actor["namespace"] == NAMESPACE]
