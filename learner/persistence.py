"""A training job that breaks and goes on: from its newest checkpoint, as often as `max_failures` allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ray.exceptions import RayError

from configs import Config

CURABLE = (RuntimeError, TimeoutError, RayError)
"""What a new start may cure: lost actors, engines and nodes. A wrong request or a full disk is not among them."""


def persist(config: Config, work: Callable[[Config], None]) -> None:
    """`work(config)`; after a curable failure again, `config.max_failures` times at most, resuming what was saved.

    `work` clears away its actors before it raises.
    """
    for left in range(config.max_failures, -1, -1):
        try:
            return work(config)
        except CURABLE as error:
            if not left:
                raise
            cause = " ".join(str(error).split())[:500]
            print(f"failed, and starts again from the newest checkpoint ({left} left): {cause}", flush=True)
            config = replace(config, resume=True)
    return None
