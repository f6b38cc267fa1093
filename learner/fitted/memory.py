"""What earlier answers to a picture earned, so that its curve has more than its group's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cachetools import LRUCache

from configs.schema import Reward
from envs.taxonomy import Degradation, Taxonomy

PICTURES = 1024
"""Pictures that are remembered, those seen last."""
ANSWERS = 32
"""Different answers that are remembered of each, those given last."""

JUDGED_BY = ("restorer", "noise", "prior", "steps", "scorer", "dtype", "strategy")
"""Settings of the reward that decide what an answer earns."""


class RewardMemory:
    """Remembers rewards that depend on picture and answer alone: those of an offline job, whose noise is the picture's.

    It is part of a checkpoint: curves, and so a resumed run, depend on it.
    """

    def __init__(self, taxonomy: Taxonomy, reward: Reward):
        self._taxonomy = taxonomy
        self._judged_by = {name: getattr(reward, name) for name in JUDGED_BY}
        self._rewards: LRUCache = LRUCache(PICTURES)  # {sample_id: {degradation: reward}}

    def recall(self, sample_id: str) -> Mapping[Degradation, float]:
        """Returns what is known of a picture, oldest first."""
        return self._rewards.get(sample_id, {})

    def add(self, sample_id: str, rewards: Mapping[Degradation, float]) -> None:
        """Takes in what answers to a picture earned."""
        known = dict(self.recall(sample_id))
        for answer, reward in rewards.items():
            known.pop(answer, None)
            known[answer] = reward
        self._rewards[sample_id] = dict(list(known.items())[-ANSWERS:])

    def as_dict(self) -> dict:
        """Writes, as JSON, what `restore` reads back exactly: {"judged_by": settings of the reward, "answers":
        [[sample_id, [[type, numbers, reward], ...]], ...]}, the picture seen longest ago first."""
        answers = [
            [name, [[answer.type, [number for _, number in answer.values], reward] for answer, reward in known.items()]]
            for name, known in self._rewards.items()
        ]
        return {"judged_by": self._judged_by, "answers": answers}

    def restore(self, saved: Mapping) -> None:
        """Takes in what `as_dict` wrote; nothing where rewards were others then."""
        if saved.get("judged_by") != self._judged_by:
            return
        for name, known in saved["answers"]:
            self.add(name, {self._answer(kind, numbers): reward for kind, numbers, reward in known})

    def _answer(self, kind: str, numbers: Sequence[float]) -> Degradation:
        names = [key.name for key in self._taxonomy[kind].keys]
        return self._taxonomy.degradation(kind, dict(zip(names, numbers, strict=True)))
