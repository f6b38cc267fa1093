"""Sends the same job to a running cluster, through Ray's Jobs API, and follows, lists and stops jobs there."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from configs.errors import UserError
from configs.jobs import PACKAGES
from configs.load import load, run_folder

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout, or the site-packages that the project is installed in."""
PATHS = ("photos", "reviews", "corpus", "probe", "policy", "before", "image", "reward.prior", "reward.scorer")
SENT = ("configs", "rollout", "duvlm.py", *PACKAGES)
"""What of `PROJECT` the cluster needs, and all that travels."""
LOOK_SECONDS = 2.0
"""Between looks at a job whose log has broken off."""
AGENT_SECONDS = 60.0
"""How long the nodes of a cluster may take to be ready for jobs, once its dashboard answers."""


def submit(job: str, overrides: Sequence[str], address: str, follow: bool = True) -> int:
    """Sends the job, follows its log and returns its exit status; without `follow`, 0 once it is accepted.

    Settings are checked here first. Paths that exist here are sent absolute, and so is the output folder: a
    cluster of several machines needs them on a shared disk.
    """
    command = entrypoint(job, overrides)
    with _client(address) as client, own_modules() as folder:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"sends the project's own modules, {size / 1e6:.1f} MB, to {address}", flush=True)
        name = _accepted(client, command, job, address, folder)
        print(f"submitted {name}; `duvlm logs {name} --address {address}` shows its log again", flush=True)
        if not follow:
            return 0
        return _followed(client, name)


@contextmanager
def own_modules() -> Iterator[Path]:
    """Copies what a cluster needs into a folder of its own, which is there for the length of the `with`.

    What else lies beside it stays: runs, corpora and tests of a checkout, the other packages of an installation.
    """
    with TemporaryDirectory(prefix="duvlm-") as folder:
        for source in (PROJECT / name for name in SENT):
            if source.is_dir():
                shutil.copytree(source, Path(folder, source.name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder)
        yield Path(folder)


def _accepted(client, command: str, job: str, address: str, folder: Path) -> str:
    """Submits the command, and again while no node of the cluster takes jobs yet; returns the job's id.

    folder: sent along, the job's working directory there.

    Raises:
        UserError: none did within `AGENT_SECONDS`.
    """
    environment = {"working_dir": str(folder)}
    ends, waiting = time.monotonic() + AGENT_SECONDS, False
    while True:
        try:
            return client.submit_job(entrypoint=command, runtime_env=environment, metadata={"duvlm_job": job})
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
        if time.monotonic() > ends:
            raise UserError(
                f"no node of the cluster at {address} took the job in {AGENT_SECONDS:g} s: Ray's agent on each listens "
                "on port 52365. If another cluster of the machine holds it, end that one, or start this one with "
                "`ray start --head --dashboard-agent-listen-port=PORT`"
            )
        if not waiting:
            print(f"waiting up to {AGENT_SECONDS:g} s for an agent of the cluster (port 52365 of a node)", flush=True)
        waiting = True
        time.sleep(LOOK_SECONDS)


def entrypoint(job: str, overrides: Sequence[str]) -> str:
    """Writes the command the cluster runs: by this interpreter where the cluster has it too, else its `python`."""
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
    """Makes the paths absolute that exist here, in `FOLDER`, `FILE,FILE`, `celeba:FOLDER` or `[NAME:1@FILE]`."""
    if "@" in value:
        return re.sub(r"@([^,\]]+)", lambda match: f"@{_absolute(match[1])}", value)
    if Path(value).exists():
        return str(Path(value).absolute())
    parts = [part.rpartition(":") for part in value.split(",")]
    return ",".join(f"{a}{colon}{Path(b).absolute() if b and Path(b).exists() else b}" for a, colon, b in parts)


def status(address: str) -> list[tuple[str, str, str]]:
    """Lists (id, status, command) of every job the cluster knows."""
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
    """Prints the log of a job until it ends, and returns its exit status."""
    asyncio.run(_print_log(client, name))
    info, noticed = client.get_job_info(name), False
    while not info.status.is_terminal():  # the connection broke, not the job
        time.sleep(LOOK_SECONDS)
        info = client.get_job_info(name)
        if not noticed and not info.status.is_terminal():
            print(f"{name}: its log broke off, it goes on; `duvlm logs` shows all of it", file=sys.stderr, flush=True)
            noticed = True
    if info.driver_exit_code is not None:
        return info.driver_exit_code if info.driver_exit_code >= 0 else 128 - info.driver_exit_code
    if info.status.value == "SUCCEEDED":
        return 0
    print(f"{name}: {info.status.value}: {info.message}", file=sys.stderr)
    return 1


async def _print_log(client, name: str) -> None:
    """Prints the log until it ends or the connection breaks; what is asked next tells which."""
    from aiohttp import ClientError

    with suppress(ClientError, RuntimeError):
        async for lines in client.tail_job_logs(name):
            print(lines, end="", flush=True)


@contextmanager
def _client(address: str):
    """Yields a connected client; what goes wrong between it and the cluster becomes one message."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":  # never through a proxy
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{os.environ.get('no_proxy', '')},{host}".strip(",")
    proxy = proxy_of(address, host)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
    from requests import RequestException

    try:
        client = JobSubmissionClient(address)
        logging.getLogger("ray").setLevel(logging.ERROR)  # one line for every file that is not uploaded
        yield client
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError, RequestException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if absent := re.search(r"Job (\S+) does not exist", reason):
            listed = f"`duvlm status --address {address}` lists them"
            raise UserError(f"{address} knows no job {absent[1]}: expected one of its jobs; {listed}") from None
        raise UserError(
            f"the Ray dashboard at {address} failed: {reason} Expected the "
            "dashboard of a running cluster, for example http://127.0.0.1:8265; if it asks for a token, set "
            f"RAY_AUTH_MODE=token{proxy}"
        ) from error


def proxy_of(address: str, host: str) -> str:
    """Names the proxy that this machine's environment puts before `address`, for an error; empty where none is."""
    proxy = getproxies().get(urlsplit(address).scheme)
    if not proxy or proxy_bypass(host):
        return ""
    return f"; it was asked through the proxy {proxy}: add {host} to NO_PROXY to reach it directly"
