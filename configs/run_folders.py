"""Opens run folders, locks them, writes and reads their files, and lists runs and their processes on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configs.errors import UserError
from configs.files import read_json_lines, read_yaml, write_atomically
from configs.jobs import jobs
from configs.load import changed, config_to_yaml, parse_pair, run_folder, with_world
from configs.schema import Config

ACTORS = ("RolloutActor", "RewardActor", "LearnerWorker", "PoolHost", "ScalingMailbox")
LOCK = ".lock"  # of a folder that a job works in
LEARNED_FROM = ("policy", "corpus")
"""Settings that a run keeps to its end."""


def reopen(folder: Path, overrides: Sequence[str] = ()) -> tuple[str, Config]:
    """Reads the job of a run's folder and its settings, under `overrides`, so that it continues there.

    Raises:
        UserError: no such folder, nothing there that says what ran, or wrong settings.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"resume: expected the folder of a run, with a config.yaml, got {str(folder)!r}; a job writes it in its "
            "first seconds"
        )
    first = file.read_bytes().partition(b"\n")[0].decode(errors="replace").removeprefix("# job: ")
    job = first if first in jobs() else folder.resolve().name
    if job not in jobs():
        raise UserError(f"resume: {file} does not say which job it was; use `duvlm run JOB out={folder}`")
    settings = read_yaml(file, cure=f"use `duvlm run {job} out={folder}` with the settings of the run")
    config = changed(Config(), settings | {"out": str(folder), "resume": True}, str(file))
    return job, changed(config, dict(with_world([parse_pair(text) for text in overrides])))


def check_writable(folder: Path) -> None:
    """Raises UserError where `folder` is none, or cannot be made or written to. Makes nothing."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        for name in folder.parts:
            (there / name).exists()  # raises where a name is too long, below folders that are to be made too
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; use out=") from None
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {folder}: {there} is {'read-only' if there.is_dir() else 'a file'}; use out=")


def listing(root: Path = Path("runs")) -> Iterator[tuple[str, str]]:
    """Lists (folder, how far it is) of the runs below `root`, which are NAME/JOB."""
    for folder in sorted(path for path in root.glob("*/*") if path.name in jobs()):
        if (folder / "summary.json").exists():
            yield str(folder), "finished"
        elif (step := _last_step(folder / "metrics.jsonl")) is not None:
            yield str(folder), f"step {step} of {_steps_of(folder)}"
        else:
            yield str(folder), "not finished"


def processes() -> Iterator[tuple[int, str]]:
    """Lists (process id, what it is) of every job, actor and engine on this machine, of any user's cluster."""
    import psutil

    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or [""]
        title = words[0].removeprefix("ray::").partition(".")[0]
        if title in ACTORS or title.startswith("VLLM::"):
            yield process.info["pid"], title
        elif any(Path(word).name in ("duvlm", "duvlm.py") for word in words[:2]) and {"run", "resume"} & set(words):
            yield process.info["pid"], " ".join(["duvlm", *words[2:5]])


def _steps_of(folder: Path) -> str:
    try:
        return str(read_yaml(folder / "config.yaml", ("steps",))["steps"])
    except UserError as error:
        return f"an unknown number: {error}"


def _last_step(file: Path) -> int | None:
    """Reads the last step of metrics.jsonl; a line that is being written, or damaged, does not count."""
    rows = _rows(file)[0]
    return rows[-1]["step"] if rows else None


def _rows(file: Path) -> tuple[list[dict], list[int]]:
    """Reads the lines of metrics.jsonl that are steps, and the numbers of those that are damaged."""
    if not file.exists():
        return [], []
    rows, damaged = read_json_lines(file)
    return [row for row in rows if isinstance(row.get("step"), int)], damaged


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder (created if missing) for the time of a job.

    The operating system holds the lock and lets go of it when the process ends, however it ends: a file left by a
    killed job locks nothing. Its text, pid and host, is for the message.

    Raises:
        UserError: another job works in the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder} is in use by another job ({file.read().strip() or 'unknown'}): wait for it, stop it, or "
                "write elsewhere with name= or out="
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def continued(config: Config, job: str) -> Iterator[Path]:
    """Holds the run folder of a job that may go on where an earlier one stopped, and writes its config.yaml.

    Raises:
        UserError: another job works in the folder; or it holds a run with another policy or corpus.
    """
    folder = run_folder(config, job)
    with locked(folder):
        begun = _last_step(folder / "metrics.jsonl") is not None or any((folder / "checkpoints").glob("step-*"))
        if config.resume and begun:
            _check_continues(folder, config)
        else:
            write_atomically(folder / "config.yaml", config_to_yaml(config, job))
        yield folder


def _check_continues(folder: Path, config: Config) -> None:
    file = folder / "config.yaml"
    before = {}
    if file.is_file():
        try:
            before = read_yaml(file)
        except UserError as error:
            print(f"{error}; it is written anew, and nothing is known of the settings of the run so far", flush=True)
    for key in LEARNED_FROM:
        there, here = str(before.get(key, "")), getattr(config, key)
        known = there in ("", "shipped", "random") or Path(there).exists()
        if key in before and known and Path(there).resolve() != Path(here).resolve():
            raise UserError(
                f"{key}={here}: the run in {folder} began with {key}={there}; go on with that, write elsewhere with "
                "name= or out=, or begin anew with resume=false"
            )
    if (steps := before.get("steps", config.steps)) != config.steps:
        print(
            f"steps: {steps} before, {config.steps} now. From here on the learning rate follows the schedule of "
            f"{config.steps} steps, so it may jump (docs/learning.md)",
            flush=True,
        )


def read_metrics(file: Path) -> list[dict]:
    """Reads the lines of metrics.jsonl; a last line cut short by a kill is left out, and lines that are damaged."""
    return _rows(file)[0]


def lines_until(file: Path, step: int) -> str:
    """Returns the lines of metrics.jsonl up to `step`, as text: a run resumed there writes the rest anew.

    Where lines are missing or damaged it says so; a damaged file is kept beside, as metrics.jsonl.damaged.
    """
    rows, damaged = _rows(file)
    if damaged:
        aside = file.with_name(f"{file.name}.damaged")
        shutil.copy2(file, aside)
        numbers = ", ".join(map(str, damaged[:5]))
        print(f"{file}: {len(damaged)} lines are damaged and left out (line {numbers}); kept as {aside}", flush=True)
    elif step and not rows:
        print(f"{file} is missing: the log begins at step {step + 1}", flush=True)
    return "".join(json.dumps(line) + "\n" for line in rows if line["step"] <= step)
