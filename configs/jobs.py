"""The table of jobs. Every package declares its own in PACKAGE/jobs.py, which imports no torch and no Ray."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from configs.schema import Config
from configs.settings import Setting, settings

if TYPE_CHECKING:
    from configs.cluster.resources import Role

PACKAGES = ("envs", "reward_actors", "learner", "benchmarks", "service")
EVERY_JOB = ("name", "out", "seed", "environment")
"""Settings that every job reads."""


@dataclass(frozen=True)
class Job:
    """Declares a job of `duvlm run`.

    name: as typed. entry: `module:function`, called with the `Config`. help: one sentence.
    reads: keys of the settings it reads, or sections for all of theirs. roles: what it reserves of the cluster, from
    its settings; nothing for a job that runs in the driver. own_command: started as `duvlm NAME`, not `duvlm run`.
    memory: `module:function` that says what the roles hold in memory (`configs.cluster.memory`).
    """

    name: str
    entry: str
    help: str
    reads: tuple[str, ...]
    roles: Callable[[Config], tuple[Role, ...]] = lambda config: ()
    own_command: bool = False
    memory: str = ""

    def start(self, *arguments) -> None:
        """Imports the entry point, which may take seconds, and calls it."""
        module, _, function = self.entry.partition(":")
        getattr(importlib.import_module(module), function)(*arguments)

    def settings(self) -> list[Setting]:
        """Lists the settings that the job reads."""
        names = (*EVERY_JOB, *self.reads)
        return [each for key, each in settings().items() if key in names or key.partition(".")[0] in names]


@cache
def jobs() -> dict[str, Job]:
    """Collects all jobs by name."""
    declared = [job for package in PACKAGES for job in importlib.import_module(f"{package}.jobs").JOBS]
    return {job.name: job for job in declared}
