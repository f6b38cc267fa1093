"""A held-out labelled corpus that an RL job is measured on and never learns from: a guard against a cheated reward."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ray

from configs.schema import Config
from envs.corpus.reader import check_corpus, check_size, read_samples
from envs.language.reading import read_text
from envs.metrics import measure
from envs.types import Prompt
from envs.world import world_taxonomy
from rollout.pool import RolloutPool

SAMPLES = 48


class Probe:
    """Asks engines, greedily, about the first `SAMPLES` (or `limit`) samples of `split` of the corpus at `probe=`."""

    def __init__(self, config: Config):
        """Raises UserError if there is no such corpus, or it is of another world or size."""
        self._taxonomy = world_taxonomy(config.world)
        folder = Path(config.probe).resolve()
        check_size(folder, config.world)
        check_corpus(folder)
        samples = read_samples(folder, config.split, self._taxonomy, config.limit or SAMPLES)
        self._truth = samples.degradations()
        self._samples = [replace(sample, clean=None, degradation=None) for sample in samples]

    async def measure(self, rollouts: RolloutPool) -> dict[str, float]:
        """Measures J-Acc, T-Acc and mean P-Rel of the engines' present weights."""
        prompts = [Prompt(str(i), ray.put(sample)) for i, sample in enumerate(self._samples)]
        texts = {
            group.prompt.sample_id: group.completions[0].text
            async for group in rollouts.sample(prompts, n=1, temperature=0.0)
        }
        answers = [read_text(texts[prompt.sample_id], self._taxonomy) for prompt in prompts]
        result = measure(self._truth, answers, self._taxonomy, resamples=0)
        return {"j_acc": result.j_acc, "t_acc": result.t_acc, "p_rel": result.p_rel}
