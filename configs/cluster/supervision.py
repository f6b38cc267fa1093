"""Why an actor ended, in one line: what Ray says of it, and the last lines of its log."""

from __future__ import annotations

import re
from pathlib import Path

LINES, WIDTH = 3, 300
"""Lines of a log that are told, and characters of each and of what Ray says."""
BOILERPLATE = "Some common causes include"


def describe_failure(error: BaseException) -> str:
    """One line on `error`; where an actor died on this node, with the last lines of its log in it."""
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
    found = folder.glob(f"worker-*-{process}.*") if folder else ()
    files = sorted(log for log in found if log.suffix in (".out", ".err"))
    if not files:
        return "Its log is not on this node"
    lines = [line for file in files for line in _tail(file)]
    if not lines:
        return f"Its log is empty ({files[0].with_suffix('')}.*)"
    return f"Its log ends: {' | '.join(lines[-LINES:])}"


def _tail(file: Path) -> list[str]:
    """The last lines somebody wrote; those that begin with a colon are Ray's own marks."""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 64 * 1024))
        lines = log.read().decode(errors="replace").splitlines()
    return [_line(line) for line in lines if line.strip() and not line.startswith(":")][-LINES:]


def logs() -> Path | None:
    """Where this node's actors write, if this process is connected to a cluster."""
    from ray._private import worker  # Ray has no public name for it

    node = worker._global_node
    return Path(node.get_logs_dir_path()) if node else None


def _line(text: str, width: int = WIDTH) -> str:
    words = " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())
    return words if len(words) <= width else f"{words[:width]} ..."
