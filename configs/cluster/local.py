"""Starts a Ray cluster on this machine for one job: reachable from this machine alone, with a token of its owner."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from configs.cluster.machine import describe_machine, open_to_others, token_file
from configs.errors import UserError


def start(**options) -> None:
    """Starts the cluster and connects this process; it ends with this process. options: of `ray.init`.

    Raises:
        UserError: it does not start, with what the machine lacks.
    """
    import ray

    protect_token()
    try:
        with _loopback_only():
            # Two CPUs at least: the tiny track fits one slow core as well.
            ray.init(address="local", num_cpus=max(2, _cores()), include_dashboard=False, **options)
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, OSError):
            raise  # Ray raises plain Exception for a node that does not start in time, and nothing else
        ray.shutdown()
        raise UserError(
            f"no local Ray cluster could be started: {error} Expected it within half a minute: see whether the "
            f"machine is overloaded or short of something ({describe_machine()}), then run the same command again"
        ) from error


def protect_token() -> None:
    """Makes the token of this user's clusters, where there is none, and lets nobody else read it.

    Ray would make it readable for all users of the machine. In a home that cannot be written to, the token lives as
    long as this process.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    token, file = secrets.token_hex(32), token_file()
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".auth_token.{os.getpid()}")
            with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as text:
                text.write(token)
            with suppress(FileExistsError):  # another job was faster
                os.link(draft, file)
            draft.unlink()
        if open_to_others(file):
            file.chmod(0o600)
    except OSError:
        if not os.access(file, os.R_OK):
            os.environ["RAY_AUTH_TOKEN"] = token


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Makes a node that is started in the block listen on 127.0.0.1 alone, and leave port 52365 to others.

    Ray has no public option for either: it puts the machine's own address in place of 127.0.0.1, and its agent takes
    the port that a cluster needs to which people submit jobs.
    """
    from ray._private import parameter

    node_parameters = parameter.RayParams
    parameter.RayParams = lambda **given: node_parameters(
        **given | {"node_ip_address": "127.0.0.1", "dashboard_agent_listen_port": 0}
    )
    try:
        yield
    finally:
        parameter.RayParams = node_parameters


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
