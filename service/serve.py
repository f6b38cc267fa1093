"""Runs the restoration service on this machine, until it is interrupted: `duvlm serve`."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence

from benchmarks.quality.checks import check_prior
from configs import UserError
from configs.cluster.connect import prepare
from configs.cluster.supervision import describe_failure
from configs.schema import Config
from envs.world import in_own_world, policy_folder
from service.web.app import Ingress, app
from service.web.security import EVERYWHERE, LOCAL

APPLICATION = "duvlm"
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**24), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
"""For glibc, which else keeps the memory of large pictures, scattered over the arenas of all threads. Smaller limits
cost time: with 1 MiB, and the trimming that comes with it, a restoration takes 60 % longer."""
READY_SECONDS = 600.0
"""How long the engine and the reward actors may take to start."""


def serve(
    config: Config, host: str = "127.0.0.1", port: int = 8000, allow: Sequence[str] = (), token: str = ""
) -> None:
    """Serves on http://HOST:PORT/ until Ctrl-C.

    Args:
        host: address to listen on. allow: names it answers to beside its address and those of this machine.
        token: what callers must bring; nothing if it is empty.

    Raises:
        UserError: the port is taken, or the pools cannot start with these settings.
    """
    try:
        start(config, host, port, allow, token)
        shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        print(f"restoration service on http://{shown}:{port}/ (Ctrl-C ends it)", flush=True)
        if host not in LOCAL:
            who = "whoever reaches this machine and knows the token" if token else "whoever reaches this machine"
            advice = "" if token else "; --token WORD asks callers for a token"
            names = f", as http://{socket.gethostname()}:{port}/ too" if host in EVERYWHERE else ""
            print(f"it listens on {host}{names}: {who} may use it{advice}", flush=True)
        while True:
            time.sleep(3600)
    finally:
        stop()


def start(config: Config, host: str, port: int, allow: Sequence[str] = (), token: str = "") -> None:
    """Starts the deployment and returns when its pools answer."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _check_free(host, port)
    config = in_own_world(config, config.policy)
    policy_folder(config.policy, config.world)  # told here, before anything is started
    check_prior(config.reward.prior)
    prepare(config, "serve")
    options = {"host": host, "port": port, "request_timeout_s": 360.0}
    serve.start(http_options=options, logging_config={"log_level": "WARNING"})
    deployment = serve.deployment(serve.ingress(app)(Ingress)).options(
        name="restoration", num_replicas=1, max_ongoing_requests=256, max_queued_requests=256,
        ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": MEMORY}}, graceful_shutdown_timeout_s=5.0,
    )  # fmt: skip
    names = (*allow, host, *([socket.gethostname(), socket.getfqdn()] if host in EVERYWHERE else []))
    await_ready(serve.run(deployment.bind(config, names, token), name=APPLICATION))


def await_ready(service, seconds: float = READY_SECONDS) -> None:
    """Returns when the pools behind a handle of `Ingress` answer.

    Raises:
        UserError: they failed to start, or did not within `seconds`.
    """
    from ray.exceptions import RayError

    try:
        service.started.remote().result(timeout_s=seconds)
    except (UserError, RayError, TimeoutError) as error:
        raise UserError(f"the service does not start: {describe_failure(error)}") from None


def stop() -> None:
    """Ends the deployment and its actors, if it had begun."""
    import ray
    from ray import serve

    if ray.is_initialized():
        serve.shutdown()


def _check_free(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"port: expected 1 .. 65535, got {port}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from None
