"""Answers of a policy, ours or anyone's, from a Hugging Face folder: sampled by the rollout engines."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from benchmarks.quality.sources.predictions import Answered
from configs import UserError
from configs.hub import model_folder
from configs.models import check_model
from configs.schema import Config
from envs import world as policy_world
from envs.corpus.reader import CorpusSplit
from envs.language.reading import read_free_text, read_text
from envs.taxonomy import Taxonomy
from envs.types import Completion, Prompt


@dataclass(frozen=True)
class Source:
    """Names a policy's folder. trained: it is ours and answers in tokens; any other gets the zero-shot question."""

    folder: Path
    trained: bool


def find(policy: str, config: Config, setting: str = "policy") -> Source:
    """Finds the policy that a setting names: `shipped`, a folder, or OWNER/NAME of the Hub.

    Raises:
        UserError: no policy there, or one of ours that was trained in another world.
    """
    shipped = policy == "shipped"
    folder = policy_world.shipped_policy(config.world) if shipped else model_folder(policy, setting).resolve()
    if policy_world.is_foreign(folder):
        check_model(folder, "policy")
        if not _has_answer_tokens(folder, config):
            return Source(folder, trained=False)
    policy_world.check_policy(folder, config.world)
    return Source(folder, trained=True)


def ask(config: Config, source: Source, samples: CorpusSplit, taxonomy: Taxonomy) -> dict[str, Answered]:
    """Asks for {sample_id: an answer}: the likeliest, as `rollout.decoding` and `rollout.grammar` say, or one draw.

    A trained policy's answers come with the posteriors of their numbers.
    """
    read = read_text if source.trained else read_free_text
    completions = asyncio.run(_sample(config, source, samples))
    return {
        sample_id: Answered(completion.text, read(completion.text, taxonomy), completion.posteriors)
        for sample_id, completion in completions.items()
    }


def _has_answer_tokens(folder: Path, config: Config) -> bool:
    """Whether the tokenizer has the answer tokens."""
    from transformers import AutoProcessor

    from rollout.vllm.prompting import knows_answers

    try:
        processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: expected a vision-language model with its processor: {str(error)[:200]}") from None
    return knows_answers(processor, policy_world.world_taxonomy(config.world))


async def _sample(config: Config, source: Source, samples: CorpusSplit) -> dict[str, Completion]:
    from rollout.pool import RolloutPool
    from rollout.vllm.prompting import answer_limit
    from rollout.vllm.sampling import answer_temperature

    pool = RolloutPool(config, source.folder)
    options = {
        "n": 1,
        "seed": config.seed,
        "temperature": answer_temperature(config.rollout),
        "max_tokens": answer_limit(config, source.trained),
        "posteriors": source.trained,
        "grammar": config.rollout.grammar,
    }
    completions = {}
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(f"answers of {source.folder.name}", total=len(samples))
        try:
            await pool.start()
            prompts = (Prompt(sample.sample_id, sample) for sample in samples)
            async for group in pool.sample(prompts, **options):
                completions[group.prompt.sample_id] = group.completions[0]
                progress.advance(task)
        finally:
            await pool.close()
    return completions
