"""An engine's process ends with the actor that started it. vLLM leaves this to the actor, which a SIGKILL gives no
time for: the engine would stay, and keep its memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """Ends this process as soon as the process that spawned it is gone; does nothing in one that nobody spawned."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="follow-parent", daemon=True).start()


def _end_after(parent) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)  # at once: the engine's own clean-up waits for a client that is gone
