"""What the rewards of one RL step cost, and whether the short way ranks answers as the long one does.

One thread, one prior, the policy's own completions. Three ways, prompt by prompt in turn:
  paper   gate, then one completion at a time, `ddnm` (100 steps);
  ddnm    the same restorer, each distinct answer once, answers stepped together;
  fast    likewise with `reward.restorer=fast`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from configs import UserError
from configs.cluster import prepare
from configs.schema import Config
from envs.corpus import read_samples
from envs.environment import OfflineEnvironment
from envs.policy_world import policy_folder, world_taxonomy
from envs.samples import Group, Prompt, RewardQuery
from reward_actors.batch import RunningBatch, restore_batch
from reward_actors.priors import load_prior
from reward_actors.restorers import RESTORERS
from reward_actors.scorers import mse
from rollout.pool import RolloutPool

WAYS = ("paper", "ddnm", "fast")


@dataclass
class Way:
    """Totals of one way. rewards: of the valid completions of each prompt."""

    seconds: float = 0.0
    image_steps: int = 0
    rewards: list[list[float]] = field(default_factory=list)


def run(config: Config) -> dict:
    """Samples `grpo.prompts` x `rollout.group_size` answers on the split of `corpus`, and scores them three ways."""
    if not config.corpus:
        raise UserError("reward: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    torch.set_num_threads(1)
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(config.corpus, config.split, taxonomy)
    prompts = [Prompt(name, sample) for name, sample in zip(samples.sample_ids(), samples, strict=True)]
    truth = dict(zip(samples.sample_ids(), samples.degradations(), strict=True))
    environment = OfflineEnvironment(prompts, truth, taxonomy)
    prepare(config, "evaluate")
    groups = asyncio.run(_sample(config, list(islice(environment.prompts(config.seed), config.grpo.prompts))))
    prior = load_prior(config.reward.prior, samples[0].degraded.shape[0])
    ways = {name: Way() for name in WAYS}
    for group in groups:
        verdicts = [environment.judge(group.prompt, completion) for completion in group.completions]
        queries = [verdict for verdict in verdicts if isinstance(verdict, RewardQuery)]
        for name, way in ways.items():
            began = time.perf_counter()
            rewards = _one_by_one(prior, queries, way) if name == "paper" else _once(prior, name, queries, way)
            way.rewards.append(rewards)
            way.seconds += time.perf_counter() - began
    figures = _figures(ways, sum(len(group.completions) for group in groups))
    _show(figures)
    return figures


async def _sample(config: Config, prompts: Sequence[Prompt]) -> list[Group]:
    pool = RolloutPool(config, policy_folder(config.policy, config.world))
    await pool.start()
    try:
        return [group async for group in pool.sample(prompts, seed=config.seed)]
    finally:
        await pool.close()


def _one_by_one(prior, queries: Sequence[RewardQuery], way: Way) -> list[float]:
    rewards = []
    for query in queries:
        picture = (query.sample.degraded, query.degradation, query.sample_id)
        restored = restore_batch(prior, RESTORERS["ddnm"], *[[part] for part in picture], 1)[0]
        way.image_steps += RESTORERS["ddnm"].steps
        rewards.append(-mse(restored, query.sample.clean))
    return rewards


def _once(prior, name: str, queries: Sequence[RewardQuery], way: Way) -> list[float]:
    batch, scores = RunningBatch(prior, RESTORERS[name], 16), {}
    waiting = {query.degradation: query for query in queries}
    asked = dict(waiting)
    while waiting or len(batch):
        while waiting and batch.room:
            degradation, query = waiting.popitem()
            batch.add(degradation, query.sample_id, query.sample.degraded, degradation)
        for degradation, restored in batch.step():
            scores[degradation] = -mse(restored, asked[degradation].sample.clean)
    way.image_steps += batch.image_steps
    return [scores[query.degradation] for query in queries]


def _figures(ways: dict[str, Way], completions: int) -> dict:
    paper = ways["paper"]
    return {
        "completions": completions,
        "valid": sum(len(rewards) for rewards in paper.rewards),
        "ways": {
            name: {
                "seconds": way.seconds,
                "image_steps": way.image_steps,
                "times_fewer_seconds": paper.seconds / way.seconds,
                "times_fewer_image_steps": paper.image_steps / max(1, way.image_steps),
                **_fidelity(paper.rewards, way.rewards),
            }
            for name, way in ways.items()
        },
    }


def _fidelity(reference: list[list[float]], rewards: list[list[float]]) -> dict:
    """Within groups: mean Spearman correlation, agreement of advantage signs, regret of the chosen best (MSE).

    Groups with fewer than three distinct rewards have no ranking to lose and are not counted.
    """
    pairs = [(np.array(a), np.array(b)) for a, b in zip(reference, rewards, strict=True) if len(set(a)) >= 3]
    if not pairs:
        return {"groups": 0}
    signs = [np.mean(np.sign(a - a.mean()) == np.sign(b - b.mean())) for a, b in pairs]
    return {
        "groups": len(pairs),
        "spearman": float(np.mean([spearmanr(a, b).statistic for a, b in pairs])),
        "sign_agreement": float(np.mean(signs)),
        "regret": float(np.mean([a.max() - a[b.argmax()] for a, b in pairs])),
        "largest_difference": float(max(np.abs(a - b).max() for a, b in pairs)),
    }


def _show(figures: dict) -> None:
    ways = figures["ways"]
    table = Table("", *ways, title=f"{figures['completions']} completions, {figures['valid']} valid")
    for name in ways["paper"]:
        table.add_row(name, *(f"{way.get(name, float('nan')):.4g}" for way in ways.values()))
    Console(width=100).print(table)
