"""Two jobs in one run folder would write over each other: the second is told."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs import UserError

FILE = ".lock"


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
    with (folder / FILE).open("a+") as file:
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
