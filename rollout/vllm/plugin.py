"""Prepares each of vLLM's processes, which call `register` as an entry point (`vllm.general_plugins`)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def register() -> None:
    """Makes our weight transfer known to vLLM and ties an engine's process to its actor. Safe to call twice."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory as Factory

    if "gloo" not in Factory._registry:  # plug-ins may be loaded twice in one process
        Factory.register_engine("gloo", "rollout.weights.receiver", "GlooWeightTransferEngine")
        follow_parent()


def follow_parent() -> None:
    """Ends this process as soon as the process that spawned it is gone; does nothing in one that nobody spawned.

    vLLM leaves this to the parent, which a SIGKILL gives no time for: the engine would stay, and keep its memory.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="follow-parent", daemon=True).start()


def _end_after(parent) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)  # at once: the engine's own clean-up waits for a client that is gone
