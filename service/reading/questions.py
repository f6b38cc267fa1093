"""Holds what is asked of a policy to read a photograph, and what comes of it; nothing here runs one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from envs.language.answer import SEVERITY_WORDS, sentence
from envs.language.evidence import describe
from envs.language.vocabulary import AnswerTokens
from envs.taxonomy import Degradation, DegradationType, Taxonomy
from service.reading.views import View


@dataclass(frozen=True)
class Reading:
    """Holds what a policy reads off one photograph.

    degradation: in pixels of the photograph; None where the text is no valid answer.
    text: the policy's own words, or, of several views, the answer that they come to together.
    reason: why there is no degradation, as `envs.language.reading` names it; empty where there is one.
    intervals: {key: (low, high)}, 90 % of the posterior of each number, in pixels of the photograph; of a key that is
        a vector or grid, lists of low and high ends in its order, row by row.
    confidence: probability of the type that was answered, 0 to 1; 0 where there is none.
    """

    degradation: Degradation | None
    text: str
    reason: str = ""
    intervals: dict[str, tuple] | None = None
    confidence: float = 0.0


@dataclass(frozen=True)
class Language:
    """Holds the words of a policy.

    encode: text -> token ids. decode: token ids -> text. end: the end-of-turn token.
    rationale: answers begin with words. decoding: see `rollout.decoding`.
    size: the largest token id.
    """

    taxonomy: Taxonomy
    tokens: AnswerTokens
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    end: int
    rationale: bool
    decoding: str = "argmax"
    size: int = 0

    @classmethod
    def of(cls, tokenizer, taxonomy: Taxonomy, rationale: bool, decoding: str) -> Language:
        """Takes the words of a tokenizer that knows the answer tokens."""
        tokens = AnswerTokens.of(tokenizer, taxonomy)

        def encode(text: str) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=False)

        size = max(tokenizer.get_vocab().values())
        return cls(taxonomy, tokens, encode, tokenizer.decode, tokenizer.eos_token_id, rationale, decoding, size)

    @cached_property
    def types(self) -> set[int]:
        """The tokens that name a type."""
        return {self.encode(f"[T-{kind.name}]")[0] for kind in self.taxonomy.singles}

    def announcements(self, kind: DegradationType, views: Sequence[View]) -> list[list[int]]:
        """Lists the token ids of every sentence that may come before the tokens of a type; where they are what is seen
        in a picture, those of the views."""
        if not self.rationale or not kind.phenomena:
            return [[]]
        if self.taxonomy.evidence:
            return [self.encode(seen) for seen in dict.fromkeys(describe(view.picture) for view in views)]
        levels = product(range(len(SEVERITY_WORDS)), repeat=len(kind.parts))
        return [self.encode(sentence(each, kind.phenomena)) for each in levels]


@dataclass(frozen=True)
class Look:
    """Shows these views; the questions that follow are about them. Nothing is answered."""

    views: Sequence[View]


@dataclass(frozen=True)
class Write:
    """Asks for the answer to each view by itself: its token ids, without the end-of-turn token, a list a view."""


@dataclass(frozen=True)
class Next:
    """Asks what may follow `drafts[i]`, beginnings of an answer to view `views[i]`: float64 log-probs (drafts,
    vocabulary) of each of these views."""

    views: Sequence[int]
    drafts: Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Score:
    """Asks for the log-prob of every token of each draft, whatever the view: float64 (tokens,) a draft, of each
    view."""

    drafts: Sequence[Sequence[int]]


Question = Look | Write | Next | Score
Steps = Generator[Question, Any, Any]


def answer(steps: Generator[Question, Any, Reading], reply: Callable[[Question], Any]) -> Reading:
    """Takes the steps to their end, every question answered by `reply`."""
    question = next(steps)
    while True:
        try:
            question = steps.send(reply(question))
        except StopIteration as end:
            return end.value
