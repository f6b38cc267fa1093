"""A training job that breaks and goes on: from its newest checkpoint, as often as `max_failures` allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import ray
from ray.exceptions import RayError

from configs import Config, UserError
from configs.cluster.supervision import describe_failure

CURABLE = (RuntimeError, TimeoutError, RayError)
"""What a new start may cure: lost actors, engines and nodes. A wrong request or a full disk is not among them."""
SETTLING_SECONDS = 30.0
"""Ray notices so late that a node is lost: what is started before may be placed on it, and never runs."""
FULL = ("No space left on device", "Disk quota exceeded", "File too large")


def run_with_restarts(config: Config, work: Callable[[Config], None]) -> None:
    """Runs `work(config)`; after a curable failure again, `config.max_failures` times at most, resuming what was saved.

    `work` clears away its actors before it raises.

    Raises:
        UserError: there was no room to write to.
    """
    for left in range(config.max_failures, -1, -1):
        try:
            return work(config)
        except (*CURABLE, OSError) as error:
            if full := next((reason for reason in FULL if reason in str(error)), ""):
                raise UserError(
                    f"{full}: the checkpoints written before are whole; make room, then run the same command again to "
                    f"continue. {describe_failure(error)}"
                ) from error
            if not left or not isinstance(error, CURABLE):
                raise
            reason = describe_failure(error)
            print(f"failed, and starts again from the newest checkpoint ({left} left): {reason}", flush=True)
            if ray.is_initialized() and len(ray.nodes()) > 1:
                time.sleep(SETTLING_SECONDS)
            config = replace(config, resume=True)
    return None
