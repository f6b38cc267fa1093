"""What an RL job is asked about and judged by: `open_environment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import ConcatDataset

from configs import UserError
from configs.schema import Config
from envs.corpus.reader import CorpusSplit, read_samples
from envs.corpus.unlabelled import Blind, Photographs
from envs.environment import MixedEnvironment, OfflineEnvironment, OnlineEnvironment
from envs.types import Prompt
from envs.world import world_taxonomy
from learner.corpus import training_corpus


@dataclass(frozen=True)
class Environment:
    """Couples the rules, which give prompts and judge answers, with the samples that the prompts show.

    samples: what `Prompt.sample`, an index, points to.
    """

    rules: OnlineEnvironment | MixedEnvironment
    samples: CorpusSplit | Photographs | Blind | ConcatDataset


def open_environment(config: Config, job: str, out: Path) -> Environment:
    """Opens what `offline` (a corpus with its truth) or `online` (pictures alone, and `mix` of a corpus) learns from.

    Raises:
        UserError: a corpus or folder is missing or of another world, or two sources are named where one is used.
    """
    if job == "offline":
        samples = _corpus(config, out)
        return Environment(_offline(config, _prompts(samples.sample_ids()), samples), samples)
    photographs = config.photos != "bundled"
    if config.mix and not config.corpus:
        raise UserError("mix: expected corpus=FOLDER, whose samples with truth are mixed in; set it or mix=0")
    if photographs and config.corpus and not config.mix:
        raise UserError("online: photos= and corpus= are both given; leave one out, or set mix= to learn from both")
    if photographs:
        unlabelled: Photographs | Blind = Photographs(config.photos, config.world.size, config.enlarge)
        ids = unlabelled.sample_ids()
    else:
        samples = _corpus(config, out)
        unlabelled, ids = Blind(samples), samples.sample_ids()
    taxonomy = world_taxonomy(config.world)
    if not config.mix:
        return Environment(OnlineEnvironment(_prompts(ids), taxonomy), unlabelled)
    labelled = _corpus(config, out)
    prompts = _prompts([f"labelled/{sample_id}" for sample_id in labelled.sample_ids()])
    online = OnlineEnvironment(_prompts(ids, len(labelled)), taxonomy)
    offline = _offline(config, prompts, labelled)
    mixed = MixedEnvironment(online, offline, {prompt.sample_id for prompt in prompts}, config.mix)
    return Environment(mixed, ConcatDataset([labelled, unlabelled]))


def _corpus(config: Config, out: Path) -> CorpusSplit:
    return read_samples(training_corpus(config, out, of_this_seed=True), "train", world_taxonomy(config.world))


def _prompts(ids: Sequence[str], first: int = 0) -> list[Prompt]:
    return [Prompt(sample_id, first + index) for index, sample_id in enumerate(ids)]


def _offline(config: Config, prompts: Sequence[Prompt], samples: CorpusSplit) -> OfflineEnvironment:
    truth = {prompt.sample_id: true for prompt, true in zip(prompts, samples.degradations(), strict=True)}
    return OfflineEnvironment(prompts, truth, world_taxonomy(config.world), config.reward.strategy)
