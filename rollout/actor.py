"""The Ray actor around one vLLM engine."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from configs.schema import Config
from envs.language.posterior import Posterior
from envs.language.vocabulary import LIKELIEST, AnswerTokens, Place
from envs.observation import views
from envs.types import Completion, Group, Prompt, Sample
from envs.world import world_taxonomy
from rollout.vllm.arguments import engine_arguments, start_engine, transfer_backend
from rollout.vllm.prompting import grammar_for, prompt_text, question_for
from rollout.vllm.sampling import chosen, completions, density_params, sampling_params, scoring_params
from rollout.weights.lock import UpdateGate
from rollout.weights.manifest import Manifest
from rollout.weights.update import EngineLostError


class RolloutActor:
    """Samples groups, and takes new weights between them.

    A weight update is `begin_update` (waits until the groups in flight are done; later ones wait), `receive`
    while the learner sends, `finish_update` (drops every cache, stamps the version, lets groups in again).
    So a group is always sampled with the weights of one version, the one it is stamped with.
    """

    def __init__(self, policy_folder: str, config: Config):
        from transformers import AutoProcessor

        self._config, self._processor = config, AutoProcessor.from_pretrained(policy_folder)
        self._answers = AnswerTokens.of(self._processor.tokenizer, world_taxonomy(config.world))
        self._text = prompt_text(self._processor, len(config.world.views), question_for(self._processor, config))
        self._grammar = grammar_for(self._processor, config)
        pictures = [getattr(self._processor, f"{kind}_token", None) for kind in ("image", "video")]
        self._never = self._processor.tokenizer.convert_tokens_to_ids([p for p in pictures if p])  # in no answer
        self._engine = start_engine(engine_arguments(policy_folder, self._processor, config))
        self._gate, self._numbers, self._version = UpdateGate(), itertools.count(), 0

    async def ready(self) -> int:
        """Answers once the engine runs: its process id."""
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
        """n completions of one prompt, in one request; with `posteriors`, a few more for each number.

        Raises:
            EngineLostError: the engine died.
        """
        request = {"prompt": self._text, "multi_modal_data": {"image": await self._pictures(prompt)}}
        async with self._gate.sampling():
            started, version = time.monotonic(), self._version
            admitted = self._grammar if grammar else ""
            params = sampling_params(n, seed, max_tokens, temperature, self._never, admitted)
            found = completions((await self._ask(request, params)).outputs)
            if posteriors:
                found = [replace(made, posteriors=await self._posteriors(request, made.token_ids)) for made in found]
        return Group(prompt, tuple(found), version, time.monotonic() - started)

    async def logprobs(self, prompt: Prompt, completion: Completion) -> tuple[float, ...]:
        """Log-probs of a given completion's tokens under the present weights."""
        tokens = self._processor.tokenizer(self._text)["input_ids"] + list(completion.token_ids)
        request = {"prompt_token_ids": tokens, "multi_modal_data": {"image": await self._pictures(prompt)}}
        async with self._gate.sampling():
            output = await self._ask(request, scoring_params())
        return chosen(output.prompt_logprobs[-len(completion.token_ids) :], completion.token_ids)

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt as the engine reads it, pictures expanded to their tokens."""
        request = {"prompt": self._text, "multi_modal_data": {"image": await self._pictures(prompt)}}
        async with self._gate.sampling():
            return tuple((await self._ask(request, scoring_params())).prompt_token_ids)

    async def open_transfer(self, init_info: dict) -> None:
        """Joins the learner's transfer group; `init_info` as vLLM's backend takes it."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        async with self._engine_errors():
            await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info))

    async def begin_update(self) -> None:
        """Waits for the groups in flight; holds back the next."""
        await self._gate.close()

    async def receive(self, manifest: Manifest, whole: bool) -> None:
        """Takes what the learner sends at the same time. After an error the engine must be started anew.

        whole: checksums follow (over gloo).
        """
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        info = {"names": manifest.names, "dtype_names": manifest.dtype_names, "shapes": manifest.shapes}
        if transfer_backend(self._config) == "gloo":
            info["whole"] = whole
        async with self._engine_errors():
            await self._engine.start_weight_update()
            await self._engine.update_weights(WeightTransferUpdateRequest(info))
            await self._engine.finish_weight_update()

    async def finish_update(self, version: int) -> None:
        """Drops what the old weights computed (of the three caches, the vision encoder's is the one whose
        staleness nobody would see), and lets groups in."""
        async with self._engine_errors():
            await self._engine.reset_prefix_cache()
            await self._engine.reset_mm_cache()
            await self._engine.reset_encoder_cache()
        self._version = version
        await self._gate.open()

    async def close(self) -> None:
        """Stops the engine's processes."""
        self._engine.shutdown(timeout=1)

    async def _posteriors(self, request: dict, token_ids: Sequence[int]) -> tuple[Posterior, ...]:
        """Of each number in an answer, given the numbers before it. The severity in words that an answer begins with
        foretells the number, and is summed over: p(number) = sum of p(word) p(number | word)."""
        prompt = self._processor.tokenizer(self._text, add_special_tokens=False)["input_ids"]
        asked = {key: value for key, value in request.items() if key != "prompt"}

        async def next_token(written: Sequence[int], listed: int) -> dict:
            told = {**asked, "prompt_token_ids": [*prompt, *written]}
            return (await self._ask(told, density_params(listed))).outputs[0].logprobs[0]

        async def at(place: Place) -> Posterior:
            bins = len(self._answers.values[place.key])
            told = token_ids[length : place.position]
            found = await asyncio.gather(*[next_token([*word, *told], bins) for _, word in openings])
            return self._answers.posterior(place, [(w, seen) for (w, _), seen in zip(openings, found, strict=True)])

        openings, length = [(1.0, ())], self._answers.opening(token_ids)
        if length:
            openings = self._answers.openings(await next_token([], LIKELIEST))
        return tuple(await asyncio.gather(*[at(place) for place in self._answers.places(token_ids)]))

    async def _pictures(self, prompt: Prompt) -> list:
        from PIL import Image

        sample = prompt.sample if isinstance(prompt.sample, Sample) else await prompt.sample
        return [Image.fromarray(view) for view in views(sample.degraded, self._config.world.views)]

    async def _ask(self, request: dict, params):
        async with self._engine_errors():
            name = f"request-{next(self._numbers)}"
            async for output in self._engine.generate(request, params, name):
                last = output
            return last

    @asynccontextmanager
    async def _engine_errors(self) -> AsyncIterator[None]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            yield
        except EngineDeadError as error:
            await asyncio.sleep(0.5)  # its last words reach the log a moment after its end
            ends = self._engine.engine_core.resources.engine_manager.finished_procs()
            raise EngineLostError(f"the engine process ended (exit codes {ends}). {_last_words()}") from error


def _last_words(lines: int = 4) -> str:
    """The last error lines in this process's logs, where the engine's processes write too."""
    words = []
    for stream in ("/proc/self/fd/1", "/proc/self/fd/2"):
        log = Path(os.path.realpath(stream))
        if log.is_file():
            errors = re.findall(r"\b[\w.]*(?:Error|Exception)\b.*", log.read_text(errors="replace"))
            words += [f"{log}: {error}" for error in errors if "EngineDeadError" not in error][-lines:]
    return "\n".join(["Last errors in its log:", *words]) if words else "Its log names no error."
