"""Says in one line why an actor, the local cluster or this process's resources failed."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from configs.cluster.machine import describe_machine

LINES, WIDTH = 3, 300
"""Lines of a log that are quoted, and characters of each and of what Ray says."""
BOILERPLATE = "Some common causes include"
ESSENTIAL = ("gcs_server", "raylet")
"""Ray's processes without which a local cluster does nothing."""
LOOK_SECONDS, GRACE_SECONDS = 0.1, 0.3
"""Between looks at these processes; and until a signal that ended one has reached this process too."""

interrupts: list[int] = []
"""Signals by which this process was asked to end."""


def end_with_cluster(folder: Path) -> None:
    """Ends this process, with one sentence, when a process of its local Ray cluster dies.

    Ray itself waits for a minute and then ends the process with a page of its own log. The exit status is 0 where
    `folder` has got its summary.json, that of the signal where this process was asked to end, else 1.
    """
    from ray._private import worker  # Ray has no public name for its processes

    arguments = (worker._global_node, Path(folder), time.time())
    threading.Thread(target=_watch, args=arguments, name="end_with_cluster", daemon=True).start()


def _watch(node, folder: Path, began: float) -> None:
    import ray
    from ray._private import worker

    while worker._global_node is node:
        for name in ESSENTIAL:
            for process in [info.process for info in node.all_processes.get(name, ())]:
                status = process.poll()
                if status is None:
                    continue
                time.sleep(GRACE_SECONDS)
                if worker._global_node is node and ray.is_initialized():
                    _end(name, status, folder, began)
        time.sleep(LOOK_SECONDS)


def _end(name: str, status: int, folder: Path, began: float) -> None:
    summary = folder / "summary.json"
    if interrupts:
        status = 128 + interrupts[0]
        reason = "interrupted; run it again to continue a training from its checkpoint"
    elif summary.exists() and summary.stat().st_mtime >= began:
        status, reason = 0, f"Ray's process {name} ended before the job did, whose results in {folder} are complete"
    else:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        reason = (
            f"Ray's process {name} {how}, and the job with it ({describe_machine()}): free what is short, then run the "
            "same command again; a training continues from its newest checkpoint"
        )
        status = 1
    print(f"duvlm: {reason}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)


def describe_failure(error: BaseException) -> str:
    """Describes `error` in one line; where an actor died on this node, with the last lines of its log."""
    error = getattr(error, "cause", None) or error  # an error of the actor's own, without the traceback around it
    text = str(error) or f"{type(error).__name__}: no answer in time, it hangs"
    process, name = re.search(r"\bpid[:=]\s*(\d+)", text), re.search(r"class_name: (\w+)", text)
    if not process or not name:
        return _line(text, 4 * WIDTH)
    why = text.partition("\nThe actor ")[2] or text.rpartition("\n")[2]
    why = _line(why.partition(BOILERPLATE)[0]).rstrip(".")
    return f"{name[1]} (process {process[1]}) died: it {why}. {_last_lines(process[1])}"


def _last_lines(process: str) -> str:
    folder = logs()
    written = folder.glob(f"worker-*-{process}.*") if folder else ()
    files = sorted(log for log in written if log.suffix in (".out", ".err"))
    if not files:
        return "Its log is not on this node"
    lines = [line for file in files for line in _tail(file)]
    if not lines:
        return f"Its log is empty ({files[0].with_suffix('')}.*)"
    return f"Its log ends: {' | '.join(lines[-LINES:])}"


def _tail(file: Path) -> list[str]:
    """Reads the last lines somebody wrote; those that begin with a colon are Ray's own marks."""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 64 * 1024))
        lines = log.read().decode(errors="replace").splitlines()
    return [_line(line) for line in lines if line.strip() and not line.startswith(":")][-LINES:]


def logs() -> Path | None:
    """Returns where this node's actors write, if this process is connected to a cluster."""
    from ray._private import worker  # Ray has no public name for it

    node = worker._global_node
    return Path(node.get_logs_dir_path()) if node else None


def _line(text: str, width: int = WIDTH) -> str:
    words = " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())
    return words if len(words) <= width else f"{words[:width]} ..."
