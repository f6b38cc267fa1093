"""Wishes to a running job: `duvlm scale` leaves one, the job takes it up between two steps.

desk = control.open_desk(config, job)           # in the job, once
if wish := control.wished_rewards(desk): ...    # in the job, every step: `await pool.resize(wish)`
"""

from __future__ import annotations

from configs.errors import UserError
from configs.load import run_folder
from configs.schema import Config

NAMESPACE = "duvlm"


class Desk:
    """Where wishes lie; a Ray actor named after the run's folder, which ends with its job."""

    def __init__(self):
        self._rewards: int | None = None

    def wish_rewards(self, count: int) -> None:
        self._rewards = count

    def take_rewards(self) -> int | None:
        """The newest wish, once; None if there is none."""
        wish, self._rewards = self._rewards, None
        return wish


def open_desk(config: Config, job: str):
    """The desk of this job; the process must be connected. Reserves nothing."""
    import ray

    name = str(run_folder(config, job).absolute())
    return ray.remote(num_cpus=0)(Desk).options(name=name, namespace=NAMESPACE).remote()


def wished_rewards(desk) -> int | None:
    """Reward actors somebody asked for since the last call."""
    import ray

    return ray.get(desk.take_rewards.remote())


def scale_rewards(config: Config, count: int, run: str = "") -> str:
    """Asks the running job whose folder ends in `run` for `count` reward actors; returns its folder.

    Raises:
        UserError: count out of range, no running job, or several and `run` does not say which.
    """
    import ray

    from configs.cluster import connect

    if not 1 <= count <= 4096:
        raise UserError(f"scale: expected 1 .. 4096 reward actors, got {count}")
    connect(config)
    desks = [
        a["name"] for a in ray.util.list_named_actors(all_namespaces=True) if a["namespace"] == NAMESPACE
    ]
    found = [name for name in desks if name.endswith(run)]
    if len(found) != 1:
        raise UserError(
            f"scale: expected one running job{f' whose folder ends in {run!r}' if run else ''}, found "
            f"{', '.join(found or desks) or 'none'}; say which with --run"
        )
    ray.get(ray.get_actor(found[0], namespace=NAMESPACE).wish_rewards.remote(count))
    return found[0]
