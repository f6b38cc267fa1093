"""Answers of any model behind an OpenAI-compatible endpoint: `evaluate endpoint=http://HOST/v1 policy=NAME`.

A model served under the name `duvlm-FINGERPRINT` (the `taxonomy` of its world.json) is one of our policies: it gets
the question of its training and answers in tokens. Every other gets the zero-shot question, and answers in JSON or
tokens. The pictures are the same views, as PNG. The key is $OPENAI_API_KEY and is never written anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import ChatCompletion
from rich.progress import Progress

from benchmarks.quality.sources.answer_cache import AnswerCache, Reply
from benchmarks.quality.sources.predictions import Answered
from configs import UserError
from configs.schema import Config
from envs.corpus.generate import encode
from envs.corpus.reader import CorpusSplit
from envs.language import zero_shot
from envs.language.reading import Reading, read_free_text, read_text
from envs.observation import QUESTION, views
from envs.taxonomy import Taxonomy
from envs.types import Sample
from rollout.vllm.prompting import answer_limit

CACHE = "replies.jsonl"
OURS = "duvlm-"
RETRIES = 6
"""Of one request, on 408, 409, 429, 5xx, a lost connection or a time-out; backing off, or as Retry-After says."""
FAILURES = 8
"""Requests that may fail for good before no more are sent."""


@dataclass(frozen=True)
class Question:
    """Holds what is asked of every picture. trained: of a policy of ours. limit: tokens of the longest answer."""

    text: str
    trained: bool
    limit: int

    @classmethod
    def of(cls, config: Config, taxonomy: Taxonomy) -> Question:
        """Makes the question; raises UserError without a model, or if it is a policy of another taxonomy."""
        if config.policy == Config.policy:
            raise UserError("policy: expected the name of a model of the endpoint, as in policy=gpt-4o")
        if config.before:
            raise UserError("before: expected nothing beside endpoint=, whose answers are compared with no others")
        trained = config.policy.startswith(OURS)
        if trained and config.policy != f"{OURS}{taxonomy.fingerprint()}":
            raise UserError(
                f"policy={config.policy}: a policy of another world; here it is {OURS}{taxonomy.fingerprint()}: "
                "set world.* to match"
            )
        text = QUESTION if trained else zero_shot.question(taxonomy, config.world.views)
        return cls(text, trained, answer_limit(config, trained))


def ask(config: Config, samples: CorpusSplit, taxonomy: Taxonomy, folder: Path) -> tuple[dict[str, Answered], dict]:
    """Asks for what FOLDER/replies.jsonl does not know (unless `resume=false`): ({sample_id: answer}, usage).

    usage: {"requests", "refused", "truncated", "retries", "prompt_tokens", "completion_tokens"}, of all answers but for
    `requests`, the answers asked for now. The cost is prompt_tokens and completion_tokens times their prices.

    Raises:
        UserError: no model or a wrong one, an endpoint that cannot be reached, a key that it does not take; or
            requests that failed for good, once all others are answered.
    """
    question, cache = Question.of(config, taxonomy), AnswerCache(folder / CACHE, fresh=not config.resume)
    kept = len(cache)
    replies = asyncio.run(_Endpoint(config, question, cache).all(samples))
    usage = {
        "requests": len(cache) - kept,
        "refused": sum(reply.refused for reply in replies),
        "truncated": sum(reply.finish == "length" for reply in replies),
        "retries": sum(reply.retries for reply in replies),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
    }
    return {reply.sample_id: _read(reply, question, taxonomy) for reply in replies}, usage


def _read(reply: Reply, question: Question, taxonomy: Taxonomy) -> Answered:
    if reply.refused:
        return Answered(reply.text, Reading(reason="refused"))
    return Answered(reply.text, (read_text if question.trained else read_free_text)(reply.text, taxonomy))


def _request(config: Config, question: Question, sample: Sample) -> tuple[str, list[dict]]:
    """(hash of all that is asked, messages)."""
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(encode(view)).decode()}"}}
        for view in views(sample.degraded, config.world.views)
    ]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": question.text}]}]
    request = json.dumps([config.endpoint, config.policy, question.limit, messages])
    return hashlib.sha256(request.encode()).hexdigest()[:32], messages


class _Endpoint:
    """Asks for answers side by side, `rollout.in_flight` at a time."""

    def __init__(self, config: Config, question: Question, cache: AnswerCache):
        self._config, self._question, self._cache = config, question, cache
        self._key = os.environ.get("OPENAI_API_KEY") or "none"
        self._options: dict[str, Any] = {"temperature": 0.0, "max_completion_tokens": question.limit}
        if question.trained:
            self._options["extra_body"] = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
        self._replies: dict[str, Reply] = {}
        self._failures: list[str] = []

    async def all(self, samples: CorpusSplit) -> list[Reply]:
        """Returns one reply a sample, in their order."""
        url, stream = self._config.endpoint, iter(samples)
        if not re.fullmatch(r"https?://(\[[\da-fA-F:.]+\](:\d+)?|[^/\s\[\]]+)(/\S*)?", url):
            raise UserError(f"endpoint={url}: expected an address as in http://HOST/v1")
        async with openai.AsyncOpenAI(
            base_url=url, api_key=self._key, timeout=self._config.rollout.timeout, max_retries=RETRIES
        ) as client:
            await self._reach(client)
            with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
                task = progress.add_task(f"answers of {self._config.policy}", total=len(samples))
                advance = partial(progress.advance, task)
                count = self._config.rollout.in_flight
                workers = [asyncio.ensure_future(self._work(client, stream, advance)) for _ in range(count)]
                try:
                    await asyncio.gather(*workers)
                finally:
                    for worker in workers:
                        worker.cancel()
        if self._failures:
            raise UserError(
                f"{len(samples) - len(self._replies)} of {len(samples)} samples have no answer; the last failure: "
                f"{self._failures[-1]}. The answers so far are kept: the same command asks for the missing ones only"
            )
        return [self._replies[sample_id] for sample_id in samples.sample_ids()]

    async def _reach(self, client: openai.AsyncOpenAI) -> None:
        """Raises UserError at once where a request would be tried again and again in vain."""
        try:
            await client.with_options(max_retries=0).models.list()
        except openai.APITimeoutError:
            pass
        except openai.APIConnectionError as error:
            raise UserError(f"endpoint={self._config.endpoint}: cannot be reached: {self._describe(error)}") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._user_error(error) from None
        except openai.APIError:
            pass  # an endpoint need not list its models

    async def _work(self, client: openai.AsyncOpenAI, stream: Iterator[Sample], advance: Callable[[], None]) -> None:
        for sample in stream:
            if len(self._failures) >= FAILURES:
                return
            request, messages = _request(self._config, self._question, sample)
            reply = self._cache.get(request)
            if reply is None:
                reply = await self._reply(client, request, sample.sample_id, messages)
                if reply is None:
                    continue
                self._cache.add(reply)
            self._replies[sample.sample_id] = replace(reply, sample_id=sample.sample_id)
            advance()

    async def _reply(self, client, request: str, sample_id: str, messages: list[dict]) -> Reply | None:
        """None if the request failed for good; others may still succeed.

        Raises:
            UserError: no request can succeed.
        """
        sent = dict(self._options)
        try:
            raw = await client.chat.completions.with_raw_response.create(
                model=self._config.policy, messages=messages, **sent
            )
            return _reply(request, sample_id, raw.parse(), raw.retries_taken)
        except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
            self._failures.append(self._describe(error))
            return None
        except (_MalformedError, openai.APIResponseValidationError, json.JSONDecodeError) as error:
            self._failures.append(f"no chat completion in the response ({self._describe(error)})")
            return None
        except openai.BadRequestError as error:
            if "content" in str(error.code) or "content_filter" in str(error.body):
                return Reply(request, sample_id, error.message, refused=True, finish="content_filter")
            if not self._without(error, sent):
                raise self._user_error(error) from None
            return await self._reply(client, request, sample_id, messages)
        except openai.APIStatusError as error:
            raise self._user_error(error) from None

    def _without(self, error: openai.BadRequestError, sent: Mapping) -> bool:
        """Leaves out what the server will not have of the parameters sent, if it names one, from now on; reasoning
        models take no temperature, older servers call the limit max_tokens."""
        named = [name for name in sent if name in error.message]
        for name in self._options.keys() & named:
            value = self._options.pop(name)
            if name == "max_completion_tokens":
                self._options["max_tokens"] = value
        return bool(named)

    def _user_error(self, error: openai.APIStatusError) -> UserError:
        hints = {401: "set OPENAI_API_KEY", 403: "set OPENAI_API_KEY", 404: "check endpoint= and policy="}
        hint = hints.get(error.status_code, "check policy=")
        model = f"endpoint={self._config.endpoint} policy={self._config.policy}"
        return UserError(f"{model}: {self._describe(error)}; {hint}")

    def _describe(self, error: Exception) -> str:
        cause = f": {error.__cause__}" if isinstance(error, openai.APIConnectionError) and error.__cause__ else ""
        return f"{error}{cause}".replace(self._key, "***")[:300]


class _MalformedError(Exception):
    """A response that is no chat completion."""


def _reply(request: str, sample_id: str, completion: object, retries: int) -> Reply:
    if not isinstance(completion, ChatCompletion) or not completion.choices:
        raise _MalformedError(str(completion)[:100])
    choice, usage = completion.choices[0], completion.usage
    if choice.message is None:
        raise _MalformedError("a choice without a message")
    return Reply(
        request,
        sample_id,
        choice.message.refusal or choice.message.content or "",
        refused=bool(choice.message.refusal) or choice.finish_reason == "content_filter",
        finish=choice.finish_reason or "",
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        retries=retries,
    )
