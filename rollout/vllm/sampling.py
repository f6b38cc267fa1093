"""Says what is asked of an engine for a group, and reads its output; pure functions over vLLM's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from configs.schema import Rollout
from envs.types import Completion


def answer_temperature(rollout: Rollout) -> float:
    """Returns the temperature of answers for evaluation and restoration: 0, greedy, unless decoding is `sample`."""
    return rollout.temperature if rollout.decoding == "sample" else 0.0


def sampling_params(
    n: int, seed: int, max_tokens: int, temperature: float, suppressed: Sequence[int] = (), grammar: str = ""
):
    """Returns vLLM's `SamplingParams` of a group of n. Temperature 0 is greedy decoding and takes n = 1.

    Answer tokens stay in the text; the log-prob of each sampled token comes back, of the distribution at
    temperature 1, whatever the temperature of sampling.

    Args:
        suppressed: ids of tokens that are not sampled.
        grammar: the language of the only texts that are sampled (`rollout.grammar`); any text if empty.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        n=n,
        seed=seed,
        max_tokens=max_tokens,
        temperature=temperature,
        logprobs=0,
        logit_bias=dict.fromkeys(suppressed, -100.0),
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(grammar=grammar) if grammar else None,
    )


def density_params(bins: int):
    """Returns vLLM's `SamplingParams` that give the log-probs of the `bins` likeliest tokens to come next.

    As many as a key has grid points: the engine can rank tokens but not pick out those of a key, and a grid point
    below that rank is less likely than every token listed.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1, temperature=0.0, logprobs=bins, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )


def scoring_params():
    """Returns vLLM's `SamplingParams` that score a given text: log-probs of the prompt's tokens."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY)


def completions(outputs: Sequence[Any]) -> tuple[Completion, ...]:
    """Reads the `outputs` of a finished vLLM request, in order of their index.

    The end token, if it was sampled, is the last of `token_ids` and not in the text.
    """
    return tuple(
        Completion(
            text=output.text,
            token_ids=tuple(output.token_ids),
            logprobs=chosen_logprobs(output.logprobs, output.token_ids),
            finished=output.finish_reason == "stop",
        )
        for output in sorted(outputs, key=lambda output: output.index)
    )


def chosen_logprobs(logprobs: Sequence[Mapping[int, Any]], token_ids: Sequence[int]) -> tuple[float, ...]:
    """Picks the log-prob of each token out of the alternatives that vLLM lists at its position."""
    return tuple(position[token].logprob for position, token in zip(logprobs, token_ids, strict=True))
