"""The Ray actor around one vLLM engine."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from configs.schema import Config
from envs.observation import views
from envs.samples import Completion, Group, Prompt, Sample
from rollout.engine import engine_arguments, start_engine
from rollout.gate import UpdateGate
from rollout.prompting import prompt_text
from rollout.sampling import chosen, completions, sampling_params, scoring_params
from rollout.update import EngineLostError
from rollout.weight_transfer import Manifest


class RolloutActor:
    """Samples groups, and takes new weights between them.

    A weight update is `begin_update` (waits until the groups in flight are done; later ones wait), `receive`
    while the learner sends, `finish_update` (drops every cache, stamps the version, lets groups in again).
    So a group is always sampled with the weights of one version, the one it is stamped with.
    """

    def __init__(self, policy_folder: str, config: Config):
        from transformers import AutoProcessor

        self._config, self._processor = config, AutoProcessor.from_pretrained(policy_folder)
        self._text = prompt_text(self._processor, len(config.world.views))
        pictures = [self._processor.image_token, self._processor.video_token]  # no answer can hold them
        self._never = self._processor.tokenizer.convert_tokens_to_ids(pictures)
        self._engine = start_engine(engine_arguments(policy_folder, self._processor, config))
        self._gate, self._numbers, self._version = UpdateGate(), itertools.count(), 0

    async def ready(self) -> int:
        """Answers once the engine runs: its process id."""
        return os.getpid()

    async def generate(self, prompt: Prompt, n: int, seed: int, max_tokens: int, temperature: float) -> Group:
        """n completions of one prompt, in one request.

        Raises:
            EngineLostError: the engine died.
        """
        request = {"prompt": self._text, "multi_modal_data": {"image": await self._pictures(prompt)}}
        async with self._gate.sampling():
            started, version = time.monotonic(), self._version
            output = await self._ask(request, sampling_params(n, seed, max_tokens, temperature, self._never))
        return Group(prompt, completions(output.outputs), version, time.monotonic() - started)

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

    async def weight_version(self) -> int:
        return self._version

    async def open_transfer(self, init_info: dict) -> None:
        """Joins the learner's transfer group; `init_info` as vLLM's backend takes it."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        async with self._engine_errors():
            await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info))

    async def begin_update(self) -> None:
        """Waits for the groups in flight; holds back the next."""
        await self._gate.close()

    async def receive(self, manifest: Manifest) -> None:
        """Takes what the learner sends at the same time. After an error the engine must be started anew."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        async with self._engine_errors():
            await self._engine.start_weight_update()
            await self._engine.update_weights(WeightTransferUpdateRequest(asdict(manifest)))
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
