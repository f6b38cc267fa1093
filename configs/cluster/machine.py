"""Looks at this machine: what of it is enough for a job, and what is not. `duvlm doctor` shows it, and what fails to
start or dies says it."""

from __future__ import annotations

import os
import re
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

MEMORY_GB, SHM_GB, DISK_GB = 4.0, 0.5, 5.0
"""Free memory, shared memory and disk that even a small job needs."""
OPEN_FILES = 4096
"""Files that Ray's processes may have open, at least; Ray raises its own limit as far as it is let."""
SOCKET_BYTES = 107
"""Longest path of a socket that Linux takes."""
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store.1"


@dataclass(frozen=True)
class Check:
    """States one thing about this machine: what was found, and what to do where that will not do."""

    name: str
    found: str
    cure: str = ""


def checks() -> list[Check]:
    """Makes the checks that take no time."""
    return [memory(), shared_memory(), disk("this folder", Path(".")), ray_folder(), token(), open_files()]


def describe_machine() -> str:
    """Says how much memory and disk this process may still use, whether something was killed for want of memory, and
    what to do about what is short."""
    short = [check for check in checks() if check.cure]
    parts = [f"memory: {memory().found}", *(_free(folder) for folder in (temporary(), Path("/dev/shm")))]
    return "; ".join([part for part in parts if part] + [f"{each.name}: {each.cure}" for each in short])


def memory() -> Check:
    """Checks the memory that is left, of the control group where that has a limit."""
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit:
        free, state = limit - used, f"{used / 1e9:.1f} of {limit / 1e9:.1f} GB that are allowed are in use"
    else:
        import psutil

        free = psutil.virtual_memory().available
        state = f"{free / 1e9:.1f} GB free"
    events = Path("/sys/fs/cgroup/memory.events")
    kills = re.search(r"^oom_kill (\d+)", events.read_text(), re.MULTILINE) if events.exists() else None
    if kills and int(kills[1]):
        state += f"; {kills[1]} processes were killed for want of memory"
    cure = f"end other programs or raise the limit: a small job needs {MEMORY_GB:g} GB"
    return Check("memory", state, cure if free < MEMORY_GB * 1e9 else "")


def shared_memory() -> Check:
    """Checks /dev/shm, where Ray keeps objects."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return Check("shared memory", "no /dev/shm", "mount one: Ray keeps objects there")
    free = shutil.disk_usage(place).free
    cure = f"enlarge /dev/shm (in a container `--shm-size=8g`): at least {SHM_GB:g} GB are needed"
    return Check("shared memory", _free(place), cure if free < SHM_GB * 1e9 else "")


def disk(name: str, folder: Path) -> Check:
    """Checks the disk of a folder that jobs write to."""
    if not os.access(folder, os.W_OK):
        return Check(name, f"{folder} cannot be written to", "write elsewhere with out=, or mend its permissions")
    free = shutil.disk_usage(folder).free
    return Check(name, _free(folder), f"free some: at least {DISK_GB:g} GB are needed" if free < DISK_GB * 1e9 else "")


def ray_folder() -> Check:
    """Checks the folder of Ray's logs and sockets: writable, with room, and of a name short enough for a socket."""
    folder = temporary()
    if not folder.is_dir():
        return Check("Ray's folder", f"{folder} is missing", "set RAY_TMPDIR to a folder that is there")
    if (length := len(str(folder / _SOCKET))) > SOCKET_BYTES:
        state = f"{folder}: paths of sockets in it have {length} bytes"
        return Check("Ray's folder", state, f"set RAY_TMPDIR to a shorter path: at most {SOCKET_BYTES} are allowed")
    return disk("Ray's folder", folder)


def token() -> Check:
    """Checks that nobody else can read the token of this user's clusters."""
    file = token_file()
    if not file.exists():
        return Check("token", f"{file}: none yet, the first job makes it")
    if open_to_others(file):
        return Check("token", f"{file} can be read by others", f"`chmod 600 {file}`")
    return Check("token", f"{file}, for its owner alone")


def open_files() -> Check:
    """Checks how many files a process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    state = f"{soft}, at most {'unlimited' if hard == resource.RLIM_INFINITY else hard}"
    few = hard != resource.RLIM_INFINITY and hard < OPEN_FILES
    return Check("open files", state, f"raise the limit to {OPEN_FILES} or more (`ulimit -n`)" if few else "")


def temporary() -> Path:
    """Gives the folder in which Ray makes its own."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp"))


def token_file() -> Path:
    """Gives the file of the token of this user's clusters."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def open_to_others(file: Path) -> bool:
    """Tells whether others than its owner may read or write a file."""
    return bool(file.stat().st_mode & 0o077)


def _free(folder: Path) -> str:
    return f"{folder}: {shutil.disk_usage(folder).free / 1e9:.1f} GB free" if folder.is_dir() else ""


def _number(file: str) -> int:
    """The number in a file of the kernel's; 0 where there is none."""
    text = Path(file).read_text().strip() if os.path.exists(file) else ""
    return int(text) if text.isdigit() else 0
