"""Completions that the policy gave to test pictures, kept in a file: a benchmark of rewards needs no engine twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from configs import UserError
from configs.cluster.connect import prepare
from configs.schema import Config
from envs.corpus.reader import CorpusSplit, read_card
from envs.types import Group, Prompt
from envs.world import policy_folder
from rollout.pool import RolloutPool


@dataclass(frozen=True)
class Recorded:
    """The completions of one prompt, as text. corpus: see `corpus_of`; sample_ids are the same in every corpus."""

    sample_id: str
    texts: tuple[str, ...]
    corpus: str


def corpus_of(folder: Path) -> str:
    """What tells a corpus from every other: the fingerprint of its recipe."""
    return read_card(folder)["recipe"]


def record(config: Config, samples: CorpusSplit, prompts: int, completions: int, file: Path) -> list[Recorded]:
    """Samples `completions` answers to each of `prompts` pictures at `rollout.temperature`, writes and returns them.

    The pictures are drawn by `seed`, equally many of each type.
    """
    chosen = _balanced(samples, prompts, config.seed)
    prepare(config, "evaluate")
    groups = asyncio.run(_sample(config, [_prompt(samples, index) for index in chosen], completions))
    texts = {group.prompt.sample_id: tuple(completion.text for completion in group.completions) for group in groups}
    names, corpus = samples.sample_ids(), corpus_of(Path(config.corpus))
    recorded = [Recorded(names[index], texts[names[index]], corpus) for index in chosen]
    file.write_text("".join(json.dumps(asdict(group)) + "\n" for group in recorded))
    return recorded


def read(file: Path, prompts: int, completions: int, corpus: str, sample_ids: Collection[str]) -> list[Recorded]:
    """The first `completions` texts of the first `prompts` lines of a file that `record` wrote.

    Raises:
        UserError: the file holds fewer, or something else, or answers to pictures of another corpus or split.
    """
    try:
        rows = [json.loads(line) for line in file.read_text().splitlines()[:prompts]]
        recorded = [Recorded(row["sample_id"], tuple(row["texts"])[:completions], row["corpus"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        keys = ", ".join(field.name for field in fields(Recorded))
        raise UserError(f"{file}: expected a line {{{keys}}} per prompt ({error}); record anew") from None
    if len(recorded) < prompts or any(len(group.texts) < completions for group in recorded):
        raise UserError(f"{file} holds fewer than {prompts} prompts x {completions} completions; record anew")
    for group in recorded:
        if group.corpus != corpus or group.sample_id not in sample_ids:
            raise UserError(
                f"{file}: expected answers to samples of this split of the corpus {corpus}, got {group.sample_id} of "
                f"{group.corpus}; record anew, or give the corpus and split it was recorded from"
            )
    return recorded


def _balanced(samples: CorpusSplit, count: int, seed: int) -> list[int]:
    """Row numbers: one of each type in turn, in an order drawn by `seed`."""
    types = np.array([degradation.type for degradation in samples.degradations()])
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(types == kind)) for kind in dict.fromkeys(types)]
    if count > len(rows) * min(map(len, rows)):
        raise UserError(f"--prompts={count}: the split has {min(map(len, rows))} samples of its rarest type")
    return [int(rows[i % len(rows)][i // len(rows)]) for i in range(count)]


def _prompt(samples: CorpusSplit, index: int) -> Prompt:
    return Prompt(samples.sample_ids()[index], samples[index])


async def _sample(config: Config, prompts: Sequence[Prompt], completions: int) -> list[Group]:
    pool = RolloutPool(config, policy_folder(config.policy, config.world))
    try:
        await pool.start()
        return [group async for group in pool.sample(prompts, n=completions, seed=config.seed)]
    finally:
        await pool.close()
