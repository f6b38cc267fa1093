"""Answers the questions of a reading with a policy in this process, by transformers; all views in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from configs.schema import Config
from envs.language.answer import severities
from learner.policy.collator import Collator, Example
from learner.policy.model import Policy
from service.reading.questions import Language, Look, Next, Question, Score
from service.reading.views import View

DRAFTS_A_ROW = 9
"""Drafts that share a prompt in one forward pass, at most: attention grows with the square of their tokens."""


class ViewLogits:
    """Computes logits for the views it was shown last, whose vision features it holds."""

    def __init__(self, policy: Policy, collate: Collator, language: Language, config: Config):
        self._policy, self._collate, self._language, self._config = policy, collate, language, config
        self._device = policy.model.device

    @torch.inference_mode()
    def reply(self, question: Question):
        """Answers one question of `service.reading.joint.read_photo`."""
        if isinstance(question, Look):
            return self._look(question.views)
        if isinstance(question, Next):
            logits = self._logits(question.views, question.drafts)
            last = [[len(draft) for draft in drafts] for drafts in question.drafts]
            picked = (scores[torch.arange(len(at)), at] for scores, at in zip(logits, last, strict=True))
            return [scores.double().log_softmax(-1).numpy() for scores in picked]
        if isinstance(question, Score):
            return self._scores(question.drafts)
        return self._answers()

    def _look(self, views: Sequence[View]) -> None:
        batch = self._collate([Example(view.picture, (self._language.end,)) for view in views])
        self._seen = self._policy.see(batch.to(self._device))
        self._pictures = batch.pictures
        self._shown = replace(batch.shown, pixel_values=batch.shown.pixel_values[:0])  # they have been seen
        self._everything = list(range(len(views)))

    def _logits(self, views: Sequence[int], drafts: Sequence[Sequence[Sequence[int]]]) -> list[torch.Tensor]:
        """float32 (drafts, longest + 1, vocabulary) of each view: of every token given those before it."""
        rows = [[[*draft, self._language.end] for draft in of_view] for of_view in drafts]
        draft = self._collate.batch(self._shown, self._pictures[list(views)], rows)
        logits = self._policy(draft.to(self._device), seen=self._seen).cpu()
        return list(logits.split([len(of_view) for of_view in rows]))

    def _scores(self, drafts: Sequence[Sequence[int]]) -> list[list[np.ndarray]]:
        """float64 (tokens,) log-probs of each draft, of each view."""
        answers: list[list[np.ndarray]] = [[] for _ in self._everything]
        for start in range(0, len(drafts), DRAFTS_A_ROW):
            some = drafts[start : start + DRAFTS_A_ROW]
            for scores, of_view in zip(self._logits(self._everything, [some] * len(answers)), answers, strict=True):
                for logits, draft in zip(scores, some, strict=True):
                    logs = logits[: len(draft)].double().log_softmax(-1)
                    of_view.append(logs[torch.arange(len(draft)), list(draft)].numpy())
        return answers

    def _answers(self) -> list[list[int]]:
        """The answer to each view, token by token."""
        rollout, language = self._config.rollout, self._language
        generators = [torch.Generator().manual_seed(self._config.seed) for _ in self._everything]
        every = _layouts(language) if rollout.grammar else []
        layouts = [every for _ in self._everything]
        written: list[list[int]] = [[] for _ in self._everything]
        unfinished = list(self._everything)
        for position in range(max(rollout.max_tokens, *map(len, every), 0)):
            logits = self._logits(unfinished, [[written[view]] for view in unfinished])
            for view, scores in zip(list(unfinished), logits, strict=True):
                ahead = scores[0, -1]
                if every:
                    ahead = _only(ahead, {token for layout in layouts[view] for token in layout[position]})
                if rollout.decoding == "sample":
                    chances = (ahead / rollout.temperature).softmax(-1)
                    token = int(torch.multinomial(chances, 1, generator=generators[view]))
                else:
                    token = greedy(written[view], ahead, language)
                if token == language.end:
                    unfinished.remove(view)
                    continue
                written[view].append(token)
                layouts[view] = [layout for layout in layouts[view] if token in layout[position]]
            if not unfinished:
                break
        return written


def greedy(written: Sequence[int], logits: torch.Tensor, language: Language) -> int:
    """Chooses the likeliest token; where it is a value or a severity, the one that `rollout.decoding` chooses."""
    best, tokens, keys = int(logits.argmax()), language.tokens, language.taxonomy.keys
    if language.decoding == "argmax":
        return best
    key = next((tokens.keys[token] for token in reversed(written) if token in tokens.keys), None)
    if key and best in tokens.values[key] and not keys[key].is_class:
        values = tokens.values[key]
        density = logits[list(values)].double().softmax(-1).numpy()
        if language.decoding == "mean":
            grid = np.array(list(keys[key].grid()))
            return values[int(np.abs(grid - density @ grid).argmin())]
        return values[_median(density)]
    words = [word[0] for word in tokens.severities]
    if best in words:
        return words[_median(logits[words].double().softmax(-1).numpy())]
    return best


def _layouts(language: Language) -> list[list[set[int]]]:
    """Every layout of a well-formed answer: the tokens that may stand at each of its places."""
    texts = severities(language.taxonomy) if language.rationale else [""]
    layouts = []
    for kind in language.taxonomy.types:
        tail = []
        for part in kind.parts:
            tail.append(set(language.encode(f"[T-{part}]")))
            for key in language.taxonomy[part].keys:
                tail.append(set(language.encode(f"[K-{key.name}]")))
                tail += [set(language.tokens.values[key.name])] * key.size
        for text in texts if kind.phenomena else [""]:
            layouts.append([*({word} for word in language.encode(text)), *tail, {language.end}])
    return layouts


def _median(density: np.ndarray) -> int:
    return min(int((density.cumsum() < 0.5).sum()), len(density) - 1)


def _only(logits: torch.Tensor, tokens: set[int]) -> torch.Tensor:
    kept = torch.full_like(logits, -math.inf)
    index = torch.tensor(sorted(tokens))
    return kept.index_copy_(0, index, logits[index])
