"""The same job on a running cluster, through Ray's Jobs API: submit, follow, list, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.errors import UserError
from configs.load import load, run_folder

PROJECT = Path(__file__).resolve().parents[2]
PATHS = ("photos", "reviews", "corpus", "probe", "policy", "before", "image")
PATHS += ("reward.prior", "reward.scorer")
# What the cluster does not need; Ray leaves .git and .venv out by itself.
LEFT_HERE = ["runs", "build", "dist", "docs", "tests", ".*_cache", ".hypothesis", "*.egg-info"]
LOOK_SECONDS = 2.0
"""Between looks at a job whose log has broken off."""


def submit(job: str, overrides: Sequence[str], address: str, follow: bool = True) -> int:
    """Sends the job, follows its log and returns its exit status; without `follow`, 0 once it is accepted.

    Settings are checked here first. Paths that exist here are sent absolute, and so is the output folder: a
    cluster of several machines needs them on a shared disk.
    """
    command = entrypoint(job, overrides)
    with _client(address) as client:
        name = client.submit_job(
            entrypoint=command,
            runtime_env={"working_dir": str(PROJECT), "excludes": LEFT_HERE},
            metadata={"duvlm_job": job},
        )
        print(f"submitted {name}; `duvlm logs {name} --address {address}` shows its log again", flush=True)
        if not follow:
            return 0
        return _followed(client, name)


def entrypoint(job: str, overrides: Sequence[str]) -> str:
    """The command the cluster runs: this interpreter where the cluster has it too, else its `python`."""
    config = load(job, overrides)
    sent = [text for text in overrides if text.partition("=")[0].strip() != "out"]
    for text in overrides:
        key, _, value = text.partition("=")
        if key.strip() in PATHS and (absolute := _absolute(value)) != value:
            sent.append(f"{key}={absolute}")
    sent.append(f"out={run_folder(config, job).absolute()}")
    command = shlex.join(["duvlm.py", "run", job, *sent])
    return f'p={shlex.quote(sys.executable)}; [ -x "$p" ] || p=python; exec "$p" {command}'


def _absolute(value: str) -> str:
    """The paths in `FOLDER`, `FILE,FILE`, `celeba:FOLDER` or `[NAME:1@FILE]` that exist here, absolute."""
    if "@" in value:
        return re.sub(r"@([^,\]]+)", lambda found: f"@{_absolute(found[1])}", value)
    if Path(value).exists():
        return str(Path(value).absolute())
    parts = [part.rpartition(":") for part in value.split(",")]
    return ",".join(f"{a}{colon}{Path(b).absolute() if b and Path(b).exists() else b}" for a, colon, b in parts)


def status(address: str) -> list[tuple[str, str, str]]:
    """(id, status, command) of every job the cluster knows."""
    with _client(address) as client:
        jobs = sorted(client.list_jobs(), key=lambda job: job.start_time or 0)
        commands = [job.entrypoint.rpartition("duvlm.py ")[2] for job in jobs]
        names = [job.submission_id or job.job_id for job in jobs]
        return list(zip(names, (job.status.value for job in jobs), commands, strict=True))


def logs(name: str, address: str, follow: bool) -> int:
    """Prints a job's log; with `follow` until it ends, and returns its exit status then."""
    with _client(address) as client:
        if not follow:
            print(client.get_job_logs(name), end="")
            return 0
        return _followed(client, name)


def stop(name: str, address: str) -> bool:
    """Asks a job to end; False where it had ended before."""
    with _client(address) as client:
        return client.stop_job(name)


def _followed(client, name: str) -> int:
    """Prints the log of a job until it ends; its exit status."""
    asyncio.run(_print_log(client, name))
    info, said = client.get_job_info(name), False
    while not info.status.is_terminal():  # the connection broke, not the job
        time.sleep(LOOK_SECONDS)
        info = client.get_job_info(name)
        if not said and not info.status.is_terminal():
            print(f"{name}: its log broke off, it goes on; `duvlm logs` shows all of it", file=sys.stderr, flush=True)
            said = True
    if info.driver_exit_code is not None:
        return info.driver_exit_code if info.driver_exit_code >= 0 else 128 - info.driver_exit_code
    if info.status.value == "SUCCEEDED":
        return 0
    print(f"{name}: {info.status.value}: {info.message}", file=sys.stderr)
    return 1


async def _print_log(client, name: str) -> None:
    """Until it ends, or the connection does: why, what is asked next will tell."""
    from aiohttp import ClientError

    with suppress(ClientError, RuntimeError):
        async for lines in client.tail_job_logs(name):
            print(lines, end="", flush=True)


@contextmanager
def _client(address: str):
    """A connected client; what goes wrong between it and the cluster becomes one message."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
    from requests import RequestException

    try:
        client = JobSubmissionClient(address)
        logging.getLogger("ray").setLevel(logging.ERROR)  # one line for every file that is not uploaded
        yield client
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError, RequestException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if found := re.search(r"Job (\S+) does not exist", reason):
            listed = f"`duvlm status --address {address}` lists them"
            raise UserError(f"{address} knows no job {found[1]}: expected one of its jobs; {listed}") from None
        raise UserError(
            f"the Ray dashboard at {address} failed: {reason} Expected the "
            "dashboard of a running cluster, for example http://127.0.0.1:8265; if it asks for a token, set "
            "RAY_AUTH_MODE=token"
        ) from error
