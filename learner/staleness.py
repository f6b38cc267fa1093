"""How far sampling may run ahead of learning: the rule of the RL loop, and of the simulation of it."""

from __future__ import annotations


def steps_ahead(step: int, max_staleness: int, steps: int) -> range:
    """The steps whose groups are asked for when the learner is about to take `step`, of `steps` in all."""
    return range(step, min(step + max_staleness + 1, steps))


def may_sample(step: int, version: int, max_staleness: int) -> bool:
    """Whether weights of `version` (learner steps they have taken) are new enough to sample the groups of `step`."""
    return version >= step - max_staleness
