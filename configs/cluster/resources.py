"""Adds up what a job reserves, and tells whether a cluster could hold it. Pure: knows nothing of Ray.

CPUs are logical shares: the stages of a job take turns and every actor computes on one thread, so the tiny
track reserves 1.5 CPUs for its five actors and fits on two cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import UserError
from configs.jobs import jobs
from configs.schema import Config

TOLERANCE = 1e-6
"""Of a share: many small ones are added."""


@dataclass(frozen=True)
class Role:
    """Describes `count` actors or tasks of one kind, with what each reserves.

    packed: on as few nodes as possible, rather than spread over them.
    """

    name: str
    count: int
    cpus: float
    gpus: float = 0.0
    packed: bool = False

    def __str__(self) -> str:
        return f"{self.count} x {self.name} ({_amount(self)} each)"


@dataclass(frozen=True)
class Node:
    """Describes a machine of the cluster: all that it offers to Ray, and what nobody has reserved."""

    name: str
    cpus: float
    gpus: float = 0.0
    free_cpus: float = 0.0
    free_gpus: float = 0.0


@dataclass(frozen=True)
class ResourcePlan:
    """Lists what a job reserves while it runs. Without roles it runs in the driver and needs no cluster."""

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
        roles = ", ".join(map(str, self.roles))
        return f"{self.job}: {roles}; in all {self.cpus:g} CPUs, {self.gpus:g} GPUs"


def rollout_engines(config: Config) -> Role:
    return Role("rollout engine", config.rollout.actors, config.rollout.cpus, config.rollout.gpus, packed=True)


def reward_actors(config: Config) -> Role:
    return Role("reward actor", config.reward.actors, config.reward.cpus, config.reward.gpus)


def learner_ranks(config: Config) -> Role:
    return Role("learner rank", config.learner.ranks, config.learner.cpus, config.learner.gpus, packed=True)


def plan(config: Config, job: str) -> ResourcePlan:
    """Collects the roles of `job` under `config`, as the job declares them."""
    return ResourcePlan(job, jobs()[job].roles(config))


def missing(plan: ResourcePlan, shares: Sequence[tuple[float, float]]) -> str:
    """Names the role that finds no place on nodes with `shares` of (CPUs, GPUs), largest first; empty if all do."""
    left = [_Free(cpus, gpus) for cpus, gpus in shares]
    for role in sorted(plan.roles, key=lambda role: (-role.gpus, -role.cpus)):
        for placed in range(role.count):
            if not any(node.take(role) for node in left):
                return f"{placed} of {role.count} x {role.name} found a place ({_amount(role)} each)"
    return ""


class _Free:
    """Counts what is left of one node: CPUs together, GPUs device by device, as Ray gives them away.

    A fraction of a GPU is of one device; where a node has a fraction left, it is taken to be of one device.
    """

    def __init__(self, cpus: float, gpus: float):
        self.cpus = cpus
        self.devices = [1.0] * int(gpus + TOLERANCE)
        if gpus - len(self.devices) > TOLERANCE:
            self.devices.append(gpus - len(self.devices))

    def take(self, role: Role) -> bool:
        """Takes the share of one actor, and says whether there was room for it."""
        share, count = (role.gpus, 1) if role.gpus < 1 else (1.0, math.ceil(role.gpus))
        fitting = [i for i, free in enumerate(self.devices) if free >= share - TOLERANCE][:count] if role.gpus else []
        if self.cpus < role.cpus - TOLERANCE or role.gpus and len(fitting) < count:
            return False
        self.cpus -= role.cpus
        for index in fitting:
            self.devices[index] -= share
        return True


def check(plan: ResourcePlan, nodes: Sequence[Node]) -> None:
    """Checks that `nodes`, if nobody else used them, could hold the plan.

    Raises:
        UserError: naming the role that found no place, what it needs and what each node has.
    """
    if lacking := missing(plan, [(node.cpus, node.gpus) for node in nodes]):
        has = " + ".join(f"{node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
        raise UserError(
            f"too few resources: {plan}. The cluster has {has or 'no nodes'}; {lacking}. Ask for fewer actors, "
            "smaller shares (rollout.cpus, reward.cpus, learner.cpus, and .gpus) or a larger cluster"
        )


def table(nodes: Sequence[Node]) -> str:
    """Writes the nodes as text, a line each: what is free of what there is."""
    width = max([len(node.name) for node in nodes] + [4])
    lines = [f"{'node':{width}}  CPUs free/all  GPUs free/all"]
    for node in nodes:
        cpus, gpus = f"{node.free_cpus:g}/{node.cpus:g}", f"{node.free_gpus:g}/{node.gpus:g}"
        lines.append(f"{node.name:{width}}  {cpus:>13}  {gpus:>13}")
    return "\n".join(lines)


def _amount(role: Role) -> str:
    return f"{role.cpus:g} CPU" + (f", {role.gpus:g} GPU" if role.gpus else "")
