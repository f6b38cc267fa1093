"""Answers the questions of a reading with a vLLM engine: many requests at once in place of one forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from envs.observation import views
from envs.types import Completion, Prompt, Sample
from envs.world import world_taxonomy
from rollout.actor import RolloutActor
from rollout.vllm.sampling import chosen_logprobs, completions, density_params, scoring_params
from service.pixels import policy_view
from service.reading.joint import read_photo
from service.reading.questions import Language, Look, Next, Question, Reading, Score

UNLISTED = -30.0
"""Log-prob of what is not among the likeliest tokens that an engine lists."""


@dataclass(frozen=True)
class ReadCompletion(Completion):
    """Holds the answer to a whole photograph, and all that was read off it."""

    reading: Reading | None = None


class ReadingActor(RolloutActor):
    """Reads photographs of any size; `sample.degraded` of a prompt is the photograph as it came."""

    async def _answer(self, prompt: Prompt, params, posteriors: bool) -> Sequence[Completion]:
        """Reads one photograph: one `ReadCompletion`; a plain `Completion` where the model has no answer tokens."""
        sample = prompt.sample if isinstance(prompt.sample, Sample) else await prompt.sample
        world = self._config.world
        if not self._answers.keys:
            view, _ = policy_view(sample.degraded, world.size)
            return await super()._answer(replace(prompt, sample=replace(sample, degraded=view)), params, posteriors)
        decoding = self._config.rollout.decoding
        language = Language.of(self._processor.tokenizer, world_taxonomy(world), world.rationale, decoding)
        questions = EngineQuestions(self, language, params)
        steps, answered = read_photo(sample.degraded, world.size, language, self._config.seed), None
        while True:
            try:
                answered = await questions.reply(steps.send(answered))
            except StopIteration as end:
                return (ReadCompletion(end.value.text, (), (), reading=end.value),)

    async def ask(self, pictures: Sequence, written: Sequence[int], params):
        """Runs one request about pictures, of an answer that begins with these tokens; the engine's last output."""
        media = {"image": list(pictures)}
        return await self._request(
            {"prompt_token_ids": [*self._prompt_ids, *written], "multi_modal_data": media}, params
        )


class EngineQuestions:
    """Answers the questions about one photograph."""

    def __init__(self, actor: ReadingActor, language: Language, params):
        """params: of the answers to single views, as vLLM has them."""
        self._actor, self._language, self._params = actor, language, params
        self._world = actor._config.world
        self._shown: list[list[Image.Image]] = []
        self._listed = max(len(values) for values in language.tokens.values.values())

    async def reply(self, question: Question):
        """Answers one question of `service.reading.joint.read_photo`."""
        everything = range(len(self._shown))
        if isinstance(question, Look):
            pictures = (views(view.picture, self._world.views) for view in question.views)
            self._shown = [[Image.fromarray(picture) for picture in shown] for shown in pictures]
            return None
        if isinstance(question, Next):
            params = density_params(self._listed)
            drafts = zip(question.views, question.drafts, strict=True)
            distributions = await self._of_each(drafts, params, lambda output, _: self._distribution(output))
            return [np.array(rows) for rows in distributions]
        if isinstance(question, Score):
            pairs = ((view, question.drafts) for view in everything)
            return await self._of_each(pairs, scoring_params(), _log_probs)
        answers = await self._of_each(((view, [[]]) for view in everything), self._params, self._tokens)
        return [answer for (answer,) in answers]

    async def _of_each(self, pairs, params, read: Callable) -> list[list]:
        """What `read` makes of the engine's output for each draft about each view."""

        async def one(view: int, draft: Sequence[int]):
            return read(await self._actor.ask(self._shown[view], draft, params), draft)

        return await asyncio.gather(
            *[asyncio.gather(*[one(view, draft) for draft in drafts]) for view, drafts in pairs]
        )

    def _distribution(self, output) -> np.ndarray:
        """float64 (tokens of the tokenizer,): log-probs of the next token; a model may have rows for more."""
        listed = {token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()}
        return np.array([listed.get(token, UNLISTED) for token in range(1 + self._language.size)])

    def _tokens(self, output, _) -> list[int]:
        written = list(completions(output.outputs)[0].token_ids)
        return written[:-1] if written[-1:] == [self._language.end] else written


def _log_probs(output, draft: Sequence[int]) -> np.ndarray:
    """float64 (tokens,) of a draft."""
    return np.array(chosen_logprobs(output.prompt_logprobs[-len(draft) :], draft))
