"""Adds up the memory that a job's actors need, device by device, and refuses what cannot fit. Knows no models: each
package says what its actors hold, in its own memory.py."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from configs.cluster.resources import Role
from configs.errors import UserError
from configs.jobs import jobs
from configs.schema import Config

GB = 1e9


@dataclass(frozen=True)
class Part:
    """States one thing that is held in memory, how large it is, and the arithmetic behind that."""

    what: str
    bytes: float
    arithmetic: str


@dataclass(frozen=True)
class Need:
    """States what each actor of a role holds.

    device: on its GPU (or on each of several); for a role without GPUs nothing.
    host: in the memory of its machine. once: there too, but by one actor of the role alone.
    hint: settings that make it smaller.
    """

    role: Role
    device: tuple[Part, ...]
    host: tuple[Part, ...]
    once: tuple[Part, ...] = ()
    hint: str = ""

    @property
    def device_bytes(self) -> float:
        return sum(part.bytes for part in self.device)

    @property
    def host_bytes(self) -> float:
        """Of all actors of the role together."""
        return self.role.count * sum(part.bytes for part in self.host) + sum(part.bytes for part in self.once)


def needs(config: Config, job: str) -> tuple[Need, ...]:
    """Collects what the roles of `job` need, as the job declares it; empty where it declares nothing."""
    module, _, function = jobs()[job].memory.partition(":")
    return getattr(importlib.import_module(module), function)(config, job) if module else ()


def devices(listed: Sequence[Need]) -> list[Counter[Need]]:
    """Places all actors with GPUs on as few devices as their shares allow, the largest shares first; those with whole
    GPUs have each of them alone."""
    places: list[tuple[float, Counter[Need]]] = []
    for need in sorted(listed, key=lambda need: -need.role.gpus):
        share, whole = min(1.0, need.role.gpus), max(1, round(need.role.gpus))
        for _ in range(need.role.count * whole if share else 0):
            index = next((i for i, (free, _) in enumerate(places) if free >= share - 1e-6), len(places))
            free, held = places[index] if index < len(places) else (1.0, Counter())
            places[index : index + 1] = [(free - share, held + Counter([need]))]
    return [held for _, held in places]


def check(listed: Sequence[Need], device_gb: float, host_bytes: float = 0.0) -> None:
    """Checks that every device and the machine can hold what is placed there.

    Args:
        device_gb: memory of each GPU, GB (10^9 bytes); 0: not known, not checked.
        host_bytes: memory of the machine, where there is only one; 0: not checked.

    Raises:
        UserError: naming what does not fit, what it needs, and what makes it smaller.
    """
    for held in devices(listed) if device_gb else ():
        if _load(held) > device_gb * GB:
            who = " and ".join(f"{count} x {need.role.name}" for need, count in held.items())
            largest = max(held, key=lambda need: need.device_bytes * held[need])
            parts = ", ".join(f"{part.what} {part.bytes / GB:.1f}" for part in largest.device)
            raise UserError(
                f"too little GPU memory: {who} on one GPU would need {_load(held) / GB:.1f} GB of device_gb="
                f"{device_gb:g} ({largest.role.name}: {parts}); {largest.hint}"
            )
    total = sum(need.host_bytes for need in listed)
    if host_bytes and total > host_bytes:
        largest = max(listed, key=lambda need: need.host_bytes)
        raise UserError(
            f"too little memory: the job would need {total / GB:.1f} GB and this machine has {host_bytes / GB:.1f}, "
            f"most of it for {largest.role.count} x {largest.role.name} ({largest.host_bytes / GB:.1f} GB); "
            f"{largest.hint}"
        )


def table(listed: Sequence[Need], device_gb: float) -> str:
    """Writes what is held where as text, a line each, with its arithmetic; empty where nothing is known."""
    if not listed:
        return ""
    lines = []
    for need in listed:
        for place, parts in (("on each GPU", need.device), ("in host memory", need.host), ("one of them", need.once)):
            if parts:
                total = sum(part.bytes for part in parts)
                lines.append((f"{need.role.count} x {need.role.name}, {place}", total, ""))
                lines += [(f"  {part.what}", part.bytes, part.arithmetic) for part in parts]
    of = f" of {device_gb:g}" if device_gb else ""
    for held, count in Counter(frozenset(held.items()) for held in devices(listed)).items():
        who = " + ".join(f"{each} x {need.role.name}" for need, each in held)
        lines.append((f"{count} GPUs with {who}", _load(Counter(dict(held))), f"GB{of} each"))
    lines.append(("host memory of all", sum(need.host_bytes for need in listed), "GB"))
    width = max(len(name) for name, *_ in lines)
    rows = (f"{name:{width}}  {size / GB:7.2f}  {arithmetic}".rstrip() for name, size, arithmetic in lines)
    return "\n".join([f"{'memory':{width}}  {'GB':>7}  arithmetic", *rows])


def _load(held: Counter[Need]) -> float:
    return sum(count * need.device_bytes for need, count in held.items())
