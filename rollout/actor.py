"""Runs one vLLM engine as a Ray actor."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

from configs.schema import Config
from envs.language.posterior import Posterior
from envs.language.vocabulary import LIKELIEST, AnswerTokens, Place
from envs.observation import views
from envs.types import Completion, Group, Prompt, Sample
from envs.world import world_taxonomy
from rollout.vllm.arguments import engine_arguments, start_engine
from rollout.vllm.prompting import grammar_for, prompt_text, question_for
from rollout.vllm.sampling import chosen_logprobs, completions, density_params, sampling_params, scoring_params
from rollout.weights.lock import UpdateLock
from rollout.weights.transfer import EngineLostError


class RolloutActor:
    """Samples groups, and takes new weights between them.

    A weight update is `begin_update` (waits until the groups in flight are done; later ones wait), `receive` once or
    several times, `finish_update` (drops every cache, stamps the version, lets groups in again). So a group is always
    sampled with the weights of one version, the one it is stamped with. After an error in an update the engine must
    be started anew.
    """

    def __init__(self, policy_folder: str, config: Config):
        from transformers import AutoProcessor

        self._config = config
        self._processor = AutoProcessor.from_pretrained(policy_folder)
        self._answers = AnswerTokens.of(self._processor.tokenizer, world_taxonomy(config.world))
        self._text = prompt_text(self._processor, len(config.world.views), question_for(self._processor, config))
        self._prompt_ids = self._processor.tokenizer(self._text)["input_ids"]
        self._grammar = grammar_for(self._processor, config)
        media = [getattr(self._processor, f"{kind}_token", None) for kind in ("image", "video")]
        self._suppressed = self._processor.tokenizer.convert_tokens_to_ids([token for token in media if token])
        arguments = engine_arguments(policy_folder, self._processor, config)
        self._traces = arguments.get("profiler_config", {}).get("torch_profiler_dir")
        self._engine = start_engine(arguments)
        self._lock = UpdateLock()
        self._request_numbers = itertools.count()
        self._version = 0

    async def ready(self) -> int:
        """Answers once the engine runs, with this process's id."""
        return os.getpid()

    async def generate(
        self,
        prompt: Prompt,
        n: int,
        seed: int,
        max_tokens: int,
        temperature: float,
        posteriors: bool = False,
        grammar: bool = False,
    ) -> Group:
        """Samples n completions of one prompt, in one request; see `RolloutPool.sample` for the arguments.

        Raises:
            EngineLostError: the engine died.
        """
        params = sampling_params(n, seed, max_tokens, temperature, self._suppressed, self._grammar if grammar else "")
        async with self._lock.sampling():
            started, version = monotonic(), self._version
            members = await self._answer(prompt, params, posteriors)
        return Group(prompt, tuple(members), version, monotonic() - started)

    async def _answer(self, prompt: Prompt, params, posteriors: bool) -> Sequence[Completion]:
        """Asks the engine about a prompt, with vLLM's sampling parameters; posteriors: of the numbers it gives, too."""
        request = {"prompt": self._text, "multi_modal_data": {"image": await self._pictures(prompt)}}
        members = completions((await self._request(request, params)).outputs)
        if not posteriors:
            return members
        return [replace(m, posteriors=await self._posteriors(request, m.token_ids)) for m in members]

    async def logprobs(self, prompt: Prompt, completion: Completion) -> tuple[float, ...]:
        """Scores a given completion: the log-prob of each of its tokens under the present weights."""
        tokens = [*self._prompt_ids, *completion.token_ids]
        request = {"prompt_token_ids": tokens, "multi_modal_data": {"image": await self._pictures(prompt)}}
        async with self._lock.sampling():
            output = await self._request(request, scoring_params())
        return chosen_logprobs(output.prompt_logprobs[-len(completion.token_ids) :], completion.token_ids)

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Returns the prompt as the engine reads it, pictures expanded to their tokens."""
        request = {"prompt": self._text, "multi_modal_data": {"image": await self._pictures(prompt)}}
        async with self._lock.sampling():
            return tuple((await self._request(request, scoring_params())).prompt_token_ids)

    async def open_transfer(self, init_info: dict) -> None:
        """Joins the learner's weight transfer; `init_info` is what vLLM's backend takes."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        async with self._engine_errors():
            await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info))

    async def begin_update(self) -> None:
        """Waits for the groups in flight, holds back the next, and prepares the engine for new weights."""
        await self._lock.begin_update()
        async with self._engine_errors():
            await self._engine.start_weight_update()

    async def receive(self, update_info: dict) -> None:
        """Takes what the learner sends at the same time; `update_info` is what vLLM's backend takes."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        async with self._engine_errors():
            await self._engine.update_weights(WeightTransferUpdateRequest(update_info))

    async def finish_update(self, version: int) -> None:
        """Puts the new weights in place, drops what the old ones computed, and lets groups in.

        Of the three caches, the vision encoder's is the one whose staleness nobody would see.
        """
        async with self._engine_errors():
            await self._engine.finish_weight_update()
            await self._engine.reset_prefix_cache()
            await self._engine.reset_mm_cache()
            await self._engine.reset_encoder_cache()
        self._version = version
        await self._lock.end_update()

    async def profile(self, folder: str, name: str) -> None:
        """Begins a trace of the engine, where `folder` is empty; else ends it and moves it there.

        name: what the names of its files begin with.
        """
        async with self._engine_errors():
            await (self._engine.stop_profile() if folder else self._engine.start_profile(name))
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for file in Path(self._traces).glob("*.json.gz"):
                shutil.move(file, folder)
            shutil.rmtree(self._traces)  # the next trace makes it again

    async def close(self) -> None:
        """Stops the engine's processes."""
        self._engine.shutdown(timeout=1)

    async def _posteriors(self, request: dict, token_ids: Sequence[int]) -> tuple[Posterior, ...]:
        """Computes the density of each number in an answer, given the numbers before it.

        The severity in words that an answer begins with foretells the number, so it is summed over:
        p(number) = sum over words of p(word) p(number | word).
        """
        pictures = {key: value for key, value in request.items() if key != "prompt"}

        async def next_token(written: Sequence[int], count: int) -> dict:
            continued = {**pictures, "prompt_token_ids": [*self._prompt_ids, *written]}
            return (await self._request(continued, density_params(count))).outputs[0].logprobs[0]

        async def posterior_at(place: Place) -> Posterior:
            bins = len(self._answers.values[place.key])
            before = token_ids[opening_length : place.position]
            listed = await asyncio.gather(*[next_token([*opening, *before], bins) for _, opening in openings])
            weights = [weight for weight, _ in openings]
            return self._answers.posterior(place, list(zip(weights, listed, strict=True)))

        openings: Sequence[tuple[float, tuple[int, ...]]] = [(1.0, ())]
        opening_length = self._answers.opening(token_ids)
        if opening_length:
            openings = self._answers.openings(await next_token([], LIKELIEST))
        return tuple(await asyncio.gather(*[posterior_at(place) for place in self._answers.places(token_ids)]))

    async def _pictures(self, prompt: Prompt) -> list:
        from PIL import Image

        sample = prompt.sample if isinstance(prompt.sample, Sample) else await prompt.sample
        return [Image.fromarray(view) for view in views(sample.degraded, self._config.world.views)]

    async def _request(self, request: dict, params):
        """Runs one request to its end; the engine's last output."""
        async with self._engine_errors():
            name = f"request-{next(self._request_numbers)}"
            async for output in self._engine.generate(request, params, name):
                last = output
            return last

    @asynccontextmanager
    async def _engine_errors(self) -> AsyncIterator[None]:
        """Turns vLLM's error for a dead engine into `EngineLostError`, with how it ended."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            yield
        except EngineDeadError as error:
            await asyncio.sleep(0.5)  # its last words reach the log a moment after its end
            exit_codes = self._engine.engine_core.resources.engine_manager.finished_procs()
            raise EngineLostError(f"the engine process ended (exit codes {exit_codes}). {_last_errors()}") from error


def _last_errors(lines: int = 4) -> str:
    """Returns the last error lines in this process's logs, where the engine's processes write too."""
    errors = []
    for stream in ("/proc/self/fd/1", "/proc/self/fd/2"):
        log = Path(os.path.realpath(stream))
        if log.is_file():
            matches = re.findall(r"\b[\w.]*(?:Error|Exception)\b.*", log.read_text(errors="replace"))
            errors += [f"{log}: {match}" for match in matches if "EngineDeadError" not in match][-lines:]
    return "\n".join(["Last errors in its log:", *errors]) if errors else "Its log names no error."
