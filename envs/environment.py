"""The two worlds a policy can be judged in: offline, where the truth is known, and online, where nobody knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from envs.answer import Invalid, parse
from envs.samples import Completion, Gated, Prompt, RewardQuery
from envs.taxonomy import Degradation, Taxonomy


class OnlineEnvironment:
    """Prompts without truth: the gate asks only for a well-formed answer within range."""

    def __init__(self, prompts: Sequence[Prompt], taxonomy: Taxonomy, penalty: float = -1.0):
        """penalty: the reward of a gated answer, below every reward that a restoration can earn."""
        if not prompts:
            raise ValueError("an environment needs at least one prompt")
        self._prompts, self._taxonomy, self._penalty = list(prompts), taxonomy, penalty

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        """An endless stream: every epoch a new permutation by (seed, epoch); `start` continues a cursor exactly."""
        count = len(self._prompts)
        while True:
            epoch, position = divmod(start, count)
            order = np.random.default_rng([seed, epoch]).permutation(count)
            yield self._prompts[order[position]]
            start += 1

    def judge(self, prompt: Prompt, completion: Completion) -> Gated | RewardQuery:
        """The gate: parse, check, and hand on what deserves a restoration."""
        answer = parse(completion.text, self._taxonomy)
        if isinstance(answer, Invalid):
            return Gated(answer.reason, self._penalty)
        if reason := self._mismatch(prompt, answer.degradation):
            return Gated(reason, self._penalty)
        return RewardQuery(prompt.sample_id, prompt.sample, answer.degradation)

    def _mismatch(self, prompt: Prompt, degradation: Degradation) -> str | None:
        return None


class OfflineEnvironment(OnlineEnvironment):
    """Prompts with truth: a wrong type is gated too (Eq. 7 and 8; keys follow from the type)."""

    def __init__(self, prompts, truth: dict[str, Degradation], taxonomy: Taxonomy, penalty: float = -1.0):
        """truth: {sample_id: degradation}."""
        super().__init__(prompts, taxonomy, penalty)
        self._truth = truth

    def _mismatch(self, prompt: Prompt, degradation: Degradation) -> str | None:
        return None if degradation.type == self._truth[prompt.sample_id].type else "wrong_type"
