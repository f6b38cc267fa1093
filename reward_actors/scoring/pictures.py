"""`duvlm.score`: how good a picture looks, by the name of a score."""

from __future__ import annotations

import numpy as np

from envs.pictures import as_picture
from reward_actors.scoring import no_reference


def score(image, metric: str = "niqe_local", weights: str = "") -> float:
    """Computes a score of one picture alone, as the terms of `reward.scorer` do.

    Args:
        image: a path, the bytes of a file, a PIL image, or uint8 RGB (H, W, 3).
        metric: `niqe_local`, `spectrum`, `contrast`, `brisque`, a no-reference name of pyiqa, or one that a package
            registers (docs/scorers.md has ranges, and which way is up).
        weights: a file of its own.

    Raises:
        UserError: the picture cannot be read, or nobody knows the score, or its package or weights are missing.
    """
    return no_reference.score(metric, as_picture(image).astype(np.float32) / 255, weights)
