"""Where a job runs and whether it fits: joining or starting Ray, and the resource plan of a job.

CPUs are logical shares: the stages of a job take turns and every actor computes on one thread, so the tiny
track reserves 1.5 CPUs for its five actors and fits on two cores. A cluster that cannot hold a plan is
refused at once, with the role that did not fit; nothing waits for a placement that never comes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from configs.errors import UserError
from configs.schema import Config

DEADLINE = 10.0
"""Seconds a cluster has to answer."""

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


@dataclass(frozen=True)
class Role:
    """`count` actors or tasks of one kind, with what each reserves."""

    name: str
    count: int
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class ResourcePlan:
    """What a job reserves while it runs. Without roles it runs in the driver and needs no cluster."""

    job: str
    roles: tuple[Role, ...] = ()

    @property
    def cpus(self) -> float:
        return sum(role.count * role.cpus for role in self.roles)

    @property
    def gpus(self) -> float:
        return sum(role.count * role.gpus for role in self.roles)

    def __str__(self) -> str:
        if not self.roles:
            return f"{self.job}: runs in this process, no cluster"
        roles = ", ".join(f"{role.count} x {role.name} ({_amount(role)} each)" for role in self.roles)
        return f"{self.job}: {roles}; in all {self.cpus:g} CPUs, {self.gpus:g} GPUs"


def plan(config: Config, job: str) -> ResourcePlan:
    """The roles of `job` under `config`."""
    rollout = Role("rollout engine", config.rollout.actors, config.rollout.cpus, config.rollout.gpus)
    reward = Role("reward actor", config.reward.actors, config.reward.cpus, config.reward.gpus)
    rank = Role("learner rank", config.learner.ranks, config.learner.cpus, config.learner.gpus)
    roles = {
        "corpus": (Role("corpus task", 1, 1.0),),
        "prior": (),
        "sft": (rank,),
        "offline": (rollout, reward, rank),
        "online": (rollout, reward, rank),
        "evaluate": () if config.predictions else (rollout, Role("restoration task", 1, 1.0)),
        "restore": () if config.degradation else (rollout,),
    }[job]
    return ResourcePlan(job, roles)


def check(plan: ResourcePlan, nodes: Sequence[Mapping[str, float]]) -> None:
    """Places every role on `nodes` ({"CPU": ..., "GPU": ...} each), the largest first.

    Raises:
        UserError: naming the role that found no place, what it needs and what the cluster has.
    """
    left = [[node.get("CPU", 0.0), node.get("GPU", 0.0)] for node in nodes]
    for role in sorted(plan.roles, key=lambda role: (-role.gpus, -role.cpus)):
        for placed in range(role.count):
            place = next((n for n in left if n[0] >= role.cpus - 1e-6 and n[1] >= role.gpus - 1e-6), None)
            if place is None:
                has = " + ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
                raise UserError(
                    f"too few resources: {plan}. The cluster has {has or 'no nodes'}; {placed} of "
                    f"{role.count} x {role.name} found a place ({_amount(role)} each). Ask for fewer actors, "
                    "smaller shares (rollout.cpus, reward.cpus, learner.cpus, and .gpus) or a larger cluster"
                )
            place[0] -= role.cpus
            place[1] -= role.gpus


def connect(config: Config) -> None:
    """Joins the cluster at `config.address` or $RAY_ADDRESS (set inside a Ray job), or starts a local one.

    Does nothing where this process is connected already. A local cluster ends with this process.

    Raises:
        UserError: nothing answers at the address within `DEADLINE` seconds, or it does not let us in.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    options = {"logging_level": "ERROR", "log_to_driver": bool(os.environ.get("DUVLM_ACTOR_LOGS"))}
    address = find(config)
    if address:
        _join(ray, address, options)
    else:  # the raylet and its workers inherit ENVIRONMENT from this process
        # Two at least: the tiny track fits one slow core as well.
        ray.init(address="local", num_cpus=max(2, _cores()), include_dashboard=False, **options)


def find(config: Config) -> str:
    """The address to join, empty for a local cluster. Asks only whether anything listens there, in no time.

    Ray itself would try a dead address for a minute or more.

    Raises:
        UserError: that is no address of a cluster, or nothing answers there.
    """
    address = config.address or os.environ.get("RAY_ADDRESS", "")
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
    """`plan`, printed; then `connect` and `check` where the job needs a cluster."""
    wanted = plan(config, job)
    print(wanted, flush=True)
    if wanted.roles:
        connect(config)
        check(wanted, list(_nodes()))
    return wanted


def _join(ray, address: str, options: dict) -> None:
    environment = {name: os.environ[name] for name in ENVIRONMENT}
    try:
        ray.init(address=address, runtime_env={"env_vars": environment}, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise UserError(
            f"cannot join the Ray cluster at {address}: {str(error).strip().splitlines()[0]}. If it asks for "
            "a token, set RAY_AUTH_MODE=token; without a cluster, leave the address out to start a local one"
        ) from error


def _nodes() -> Iterator[Mapping[str, float]]:
    import ray

    return (node["Resources"] for node in ray.nodes() if node["Alive"])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _amount(role: Role) -> str:
    return f"{role.cpus:g} CPU" + (f", {role.gpus:g} GPU" if role.gpus else "")
