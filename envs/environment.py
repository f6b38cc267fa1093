"""Environments hand out prompts and judge answers: offline with the truth, online without it, or both mixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from envs.degradations import deviation
from envs.language.answer import Invalid, parse
from envs.taxonomy import NONE, Degradation, Taxonomy
from envs.types import Completion, Gated, Prompt, RewardQuery, Scored


class OnlineEnvironment:
    """Hands out prompts without truth: its gate asks only for a well-formed answer within range."""

    def __init__(self, prompts: Sequence[Prompt], taxonomy: Taxonomy):
        if not prompts:
            raise ValueError("an environment needs at least one prompt")
        self._prompts, self._taxonomy = list(prompts), taxonomy

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        """Yields prompts for ever: each epoch a permutation of (seed, epoch); `start` continues a cursor exactly."""
        count = len(self._prompts)
        epoch, position = divmod(start, count)
        while True:
            order = np.random.default_rng([seed, epoch]).permutation(count)
            for index in order[position:]:
                yield self._prompts[index]
            epoch, position = epoch + 1, 0

    def judge(self, prompt: Prompt, completion: Completion) -> Gated | RewardQuery | Scored:
        """Gates an answer: parses and checks it, and asks for a restoration of what deserves one (Eq. 7).

        `none` restores nothing: it earns what the picture itself is worth.
        """
        answer = parse(completion.text, self._taxonomy)
        if isinstance(answer, Invalid):
            return Gated(answer.reason)
        if reason := self._mismatch(prompt, answer.degradation):
            return Gated(reason)
        nothing = answer.degradation.type == NONE
        return RewardQuery(prompt.sample_id, prompt.sample, None if nothing else answer.degradation)

    def _mismatch(self, prompt: Prompt, degradation: Degradation) -> str | None:
        return None


class OfflineEnvironment(OnlineEnvironment):
    """Hands out prompts with truth and judges by one of three strategies (Table 5).

    structured: a wrong type is gated too (Eq. 7 and 8; keys follow from the type), the rest is restored.
    naive: no gate at all: a wrong type is restored with the wrong operator, and what cannot be read restores nothing:
    it earns what the degraded picture itself is worth.
    value: nothing is restored: the reward is -`relative_error`, and a wrong type is gated.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        truth: dict[str, Degradation],
        taxonomy: Taxonomy,
        strategy: str = "structured",
    ):
        """truth: {sample_id: degradation}."""
        super().__init__(prompts, taxonomy)
        self._truth, self._strategy = truth, strategy

    def judge(self, prompt: Prompt, completion: Completion) -> Gated | RewardQuery | Scored:
        verdict = super().judge(prompt, completion)
        if self._strategy == "naive" and isinstance(verdict, Gated):
            return RewardQuery(prompt.sample_id, prompt.sample)
        if self._strategy != "value" or isinstance(verdict, Gated):
            return verdict
        truth = self._truth[prompt.sample_id]
        error = relative_error(truth, verdict.degradation or truth)  # a right `none` asks for no restoration
        return Scored(-error, {"relative_error": error})

    def _mismatch(self, prompt: Prompt, degradation: Degradation) -> str | None:
        wrong = degradation.type != self._truth[prompt.sample_id].type
        return "wrong_type" if wrong and self._strategy != "naive" else None


class MixedEnvironment:
    """Mixes an online stream with prompts that come with their truth, spread evenly."""

    def __init__(self, online: OnlineEnvironment, offline: OfflineEnvironment, labelled: set[str], share: float):
        """
        Args:
            labelled: the sample_ids that `offline` judges.
            share: of the prompts that are labelled, 0 .. 1.
        """
        self._online, self._offline, self._labelled, self._share = online, offline, frozenset(labelled), share

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        """Yields prompts as `OnlineEnvironment.prompts`; each of the two streams goes through its own epochs."""
        before = int(start * self._share)
        streams = {True: self._offline.prompts(seed, before), False: self._online.prompts(seed, start - before)}
        while True:
            start += 1
            now = int(start * self._share)
            yield next(streams[now > before])
            before = now

    def judge(self, prompt: Prompt, completion: Completion) -> Gated | RewardQuery | Scored:
        environment = self._offline if prompt.sample_id in self._labelled else self._online
        return environment.judge(prompt, completion)


def relative_error(truth: Degradation, answer: Degradation) -> float:
    """Averages sum |error| / sum |truth|, at most 1 each, over the truth's keys: 0 is right, 1 as bad as zero.

    Of a direction, half its period is as bad as zero. Where nothing is wrong there are no keys, and no error.

    Both of one type. The bound keeps every valid answer above the penalty of a gated one.
    """
    errors = []
    for name, value in truth.values:
        error, scale = deviation(name, value, answer[name])
        errors.append(min(1.0, error.sum() / max(scale.sum(), 1e-9)))
    return float(np.mean(errors)) if errors else 0.0
