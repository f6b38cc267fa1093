"""Connects a job to Ray, joining a cluster or starting a local one, and checks first that the job fits there.

A plan that does not fit is refused with the role that found no place: by a local cluster at once, by one that is
joined after `ROOM_SECONDS`, in which nodes may join and others may make room.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from configs.cluster import local, memory, supervision
from configs.cluster.placement import nodes, reserve
from configs.cluster.resources import ResourcePlan, check, missing, plan, table
from configs.errors import UserError
from configs.hub import model_folder
from configs.jobs import jobs
from configs.load import parse_pair, run_folder
from configs.models import check_model
from configs.schema import Config

DEADLINE = 10.0
"""Seconds a cluster has to answer."""
ROOM_SECONDS = 60.0
"""Seconds a job waits for nodes to join and for other jobs to make room."""

ENVIRONMENT = {  # of the driver and of every actor; a value that is already set stays
    "OMP_NUM_THREADS": "1",  # more threads in each of five processes on two cores are many times slower
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",  # weights come from folders; a hub is never asked in the middle of a job
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "RAY_worker_niceness": "0",  # Ray's 15 lets any other process of the machine starve a job
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
PASSED_ON = ("NCCL_", "TORCH_NCCL_", "GLOO_", "HF_")
"""Variables that begin so reach every actor of a cluster that is joined; so do those of `environment=`."""


def connect(variables: Mapping[str, str] | None = None) -> None:
    """Joins the cluster at $RAY_ADDRESS (`--address`, or set inside a Ray job), or starts a local one.

    Does nothing where this process is connected already. A local cluster ends with this process.

    Args:
        variables: of the environment of the job, here and in every actor.

    Raises:
        UserError: nothing answers at the address within `DEADLINE` seconds, or it does not let us in; or no local
            cluster starts.
    """
    os.environ.update(variables or {})
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _signals_wait():
        import ray

        if ray.is_initialized():
            return
        options = {"logging_level": "ERROR", "log_to_driver": bool(os.environ.get("DUVLM_ACTOR_LOGS"))}
        address = find()
        if address:
            names = {*ENVIRONMENT, *(variables or {}), *(name for name in os.environ if name.startswith(PASSED_ON))}
            _join(ray, address, {name: os.environ[name] for name in sorted(names)}, options)
        else:  # the raylet and its workers inherit the environment of this process
            local.start(**options)


@contextmanager
def cluster() -> Iterator[None]:
    """Connects as `connect` does for the time of the block; what was connected before stays so.

    Raises:
        UserError: as `connect`.
    """
    import ray

    before = ray.is_initialized()
    connect()
    try:
        yield
    finally:
        if not before:
            ray.shutdown()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Delays Ctrl-C and SIGTERM to the end of the block: while Ray starts, an interrupt can be swallowed, and Ray puts
    a handler of its own in place of ours, which would skip the clean-up of the job."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])


def find() -> str:
    """Returns the address to join, empty for a local cluster. Asks only whether anything listens there, in no time.

    Ray itself would try a dead address for a minute or more.

    Raises:
        UserError: that is no address of a cluster, or nothing answers there.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto"):
        return address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if "/" in host or not host or not port.isdigit():
        raise UserError(
            f"address: expected HOST:PORT of a Ray cluster or `auto`, got {address!r}; "
            "the URL of a dashboard goes to `duvlm submit`"
        )
    try:
        socket.create_connection((host, int(port)), timeout=DEADLINE).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}): check the address, start a cluster with "
            "`ray start --head`, or leave the address out to start a local one"
        ) from None
    return address


def prepare(config: Config, job: str) -> ResourcePlan:
    """Prints the plan of a job, joins or starts the cluster it needs, and waits until there is room for it.

    Raises:
        UserError: a tracker is not installed, the cluster does not answer, or it cannot hold the plan.
    """
    wanted = plan(config, job)
    print(wanted, flush=True)
    for name in config.trackers:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"trackers: {name} is not installed here: `pip install {name}`, or leave it out")
    if wanted.roles:
        keys = {setting.key for setting in jobs()[job].settings()}
        if "policy" in keys and not config.endpoint:
            model_folder(config.policy, "policy")  # fetched before the actors start, which ask no hub
        if "reward.prior" in keys:
            _check_prior(config.reward.prior)
        joined = bool(find())
        memory.check(memory.needs(config, job), config.device_gb, 0 if joined else psutil.virtual_memory().total)
        connect(dict(map(parse_pair, config.environment)))
        if joined:
            await_room(wanted)
            reserve(wanted)
        else:  # the local cluster was started for this job: it holds the plan now or never
            check(wanted, nodes())
            supervision.end_with_cluster(run_folder(config, job))
    return wanted


def _check_prior(spec: str) -> None:
    """Fetches the prior before the actors start, which ask no hub, and checks that it is whole."""
    folder = model_folder(spec, "reward.prior")
    for place in (folder / "unet", folder):
        if (place / "config.json").is_file():
            check_model(place, "prior")
            return


def await_room(plan: ResourcePlan, deadline: float = ROOM_SECONDS) -> None:
    """Prints the nodes of the joined cluster; returns when `plan` fits into what is free there.

    Raises:
        UserError: the nodes that are there cannot hold it, or others still held the room after `deadline` seconds.
    """
    print(table(nodes()), flush=True)
    ends, waiting = time.monotonic() + deadline, False
    while lacking := missing(plan, [(node.free_cpus, node.free_gpus) for node in nodes()]):
        if time.monotonic() > ends:
            check(plan, nodes())
            raise UserError(
                f"no room for {plan.job} in {deadline:g} s: others hold the cluster; {lacking}. Wait for them, stop "
                "them (`duvlm status --address`, `duvlm stop`), or ask for less"
            )
        if not waiting:
            print(f"waiting up to {deadline:g} s for room: {lacking}", flush=True)
        waiting = True
        time.sleep(0.5)


def _join(ray, address: str, variables: dict[str, str], options: dict) -> None:
    try:
        ray.init(address=address, runtime_env={"env_vars": variables}, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise UserError(
            f"cannot join the Ray cluster at {address}: {str(error).strip().splitlines()[0]}. If it asks for "
            "a token, set RAY_AUTH_MODE=token; without a cluster, leave the address out to start a local one"
        ) from error
