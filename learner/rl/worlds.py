"""What an RL job is asked about and judged by: its environment, and the samples its prompts show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import UserError
from configs.schema import Config
from envs.corpus.reader import CorpusSplit, read_samples
from envs.corpus.unlabelled import Blind, Photographs
from envs.environment import MixedEnvironment, OfflineEnvironment, OnlineEnvironment
from envs.types import Prompt, Sample
from envs.world import world_taxonomy
from learner.sources import training_corpus


@dataclass(frozen=True)
class JobWorld:
    """environment: gives prompts and judges answers. samples: what `Prompt.sample`, an index, points to."""

    environment: OnlineEnvironment | MixedEnvironment
    samples: Sequence[Sample]


def open_world(config: Config, job: str, out: Path) -> JobWorld:
    """The world of `offline` (a corpus with its truth) or `online` (pictures alone, and `mix` of a corpus).

    Raises:
        UserError: a corpus or folder is missing or of another world, or two sources are named where one is used.
    """
    if job == "offline":
        samples = _corpus(config, out)
        return JobWorld(_offline(config, _prompts(samples.sample_ids()), samples), samples)
    photographs = config.photos != "bundled"
    if config.mix and not config.corpus:
        raise UserError("mix: expected corpus=FOLDER, whose samples with truth are mixed in; set it or mix=0")
    if photographs and config.corpus and not config.mix:
        raise UserError("online: photos= and corpus= are both given; leave one out, or set mix= to learn from both")
    if photographs:
        unlabelled = Photographs(config.photos, config.world.size)
        ids = unlabelled.sample_ids()
    else:
        samples = _corpus(config, out)
        unlabelled, ids = Blind(samples), samples.sample_ids()
    taxonomy = world_taxonomy(config.world)
    if not config.mix:
        return JobWorld(OnlineEnvironment(_prompts(ids), taxonomy), unlabelled)
    labelled = _corpus(config, out)
    prompts = _prompts([f"labelled/{sample_id}" for sample_id in labelled.sample_ids()])
    online = OnlineEnvironment(_prompts(ids, len(labelled)), taxonomy)
    offline = _offline(config, prompts, labelled)
    mixed = MixedEnvironment(online, offline, {prompt.sample_id for prompt in prompts}, config.mix)
    return JobWorld(mixed, _Joined(labelled, unlabelled))


def _corpus(config: Config, out: Path) -> CorpusSplit:
    folder = training_corpus(config, out, of_this_seed=True)
    return read_samples(folder, "train", world_taxonomy(config.world))


def _prompts(ids: Sequence[str], first: int = 0) -> list[Prompt]:
    return [Prompt(sample_id, first + index) for index, sample_id in enumerate(ids)]


def _offline(config: Config, prompts: Sequence[Prompt], samples: CorpusSplit) -> OfflineEnvironment:
    truth = {prompt.sample_id: true for prompt, true in zip(prompts, samples.degradations(), strict=True)}
    taxonomy = world_taxonomy(config.world)
    return OfflineEnvironment(prompts, truth, taxonomy, config.reward.strategy)


class _Joined(Sequence[Sample]):
    """Two sequences, one after the other."""

    def __init__(self, *parts: Sequence[Sample]):
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, index: int) -> Sample:
        for part in self._parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)
