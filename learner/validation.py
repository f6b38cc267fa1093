"""How good a policy in training is on the validation split, and when SFT has had enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from configs.schema import Config
from envs.corpus.reader import read_card, read_samples
from envs.language.reading import read_text
from envs.metrics import measure
from envs.world import world_taxonomy
from learner.distributed.group import Learner

SAMPLES = 96
"""Answered at each checkpoint, at most."""


def validate(config: Config, learner: Learner, corpus: Path) -> dict[str, float]:
    """Greedy answers to the first samples of the validation split, measured as the paper does.

    Ranks answer equally many; where there are fewer samples than ranks, or no such split, nothing is measured.
    """
    taxonomy, count = world_taxonomy(config.world), validated(config, corpus)
    if not count:
        return {}
    samples = read_samples(corpus, "val", taxonomy, limit=count)
    texts = learner.answers(corpus, "val", count, config.rollout.max_tokens)
    found = measure(samples.degradations(), [read_text(text, taxonomy) for text in texts], taxonomy, resamples=0)
    keys = {f"val_p_rel/{name}": scores["p_rel"] for name, scores in found.keys.items()}
    return {"val_t_acc": found.t_acc, "val_j_acc": found.j_acc, "val_p_rel": found.p_rel, **keys}


def validated(config: Config, corpus: Path) -> int:
    """Samples that a validation answers."""
    there = read_card(corpus)["counts"].get("val", 0)
    return min(SAMPLES, there) // config.learner.ranks * config.learner.ranks


def best(errors: Sequence[float]) -> int:
    """Position of the smallest, the earliest of equal ones; one that could not be measured (NaN) counts as infinite."""
    finite = [math.inf if math.isnan(error) else error for error in errors]
    return finite.index(min(finite))


def exhausted(errors: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` validations brought nothing better than the best before them; never for 0."""
    return 0 < patience < len(errors) and len(errors) - 1 - best(errors) >= patience
