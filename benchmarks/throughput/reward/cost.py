"""What the rewards of one RL step cost, and whether the short way ranks answers as the long one does.

One prior, completions that the policy gave to test pictures; the ways take turns, prompt by prompt:
  paper   gate, then one completion at a time in this process, `ddnm` (100 steps);
  ddnm    the same restorer in a `RewardPool` of `reward.actors` actors;
  fast    likewise with `reward.restorer=fast`, which comes nearest to the posterior mean;
  few     likewise with `few`, which ranks as `ddnm` does;
  again   `ddnm` with other noise, if asked for: how far the reference reproduces itself.
Every process computes on one thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.quality.analysis.ranking import nearness_of
from benchmarks.throughput.reward.fidelity import fidelity
from benchmarks.throughput.reward.recording import Recorded, corpus_of, read, record
from configs import UserError
from configs.cluster.connect import connect
from configs.schema import Config
from envs.corpus.reader import CorpusSplit, read_samples
from envs.environment import OfflineEnvironment
from envs.taxonomy import Degradation
from envs.types import Completion, Prompt, RewardQuery, Scored
from envs.world import world_taxonomy
from reward_actors.pool.pool import RewardPool
from reward_actors.priors.base import Prior
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import RESTORERS, Restorer
from reward_actors.restoration.sampler import noise, step
from reward_actors.scoring.scorer import mse

SHORT = {"times_fewer_seconds": 25.0, "spearman": 0.99}
BOUNDS = {"ddnm": {"times_fewer_seconds": 3.0}, "fast": SHORT, "few": SHORT}


@dataclass
class Way:
    """Totals of one way. cpu_seconds: of the processes that restore. rewards: of each prompt's valid completions."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    image_steps: int = 0
    rewards: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """The queries that pass the gate of one prompt, and the type of its picture.

    nearness: of each query's answer to the truth, the negative mean relative error of its scalar keys.
    """

    kind: str
    nearness: tuple[float, ...]
    queries: tuple[RewardQuery, ...]


def run(config: Config, prompts: int, completions: int, recorded: Path | None = None, again: bool = False) -> dict:
    """Scores `prompts` x `completions` answers each way. They are sampled anew unless the file `recorded` has them."""
    if not config.corpus:
        raise UserError("reward: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    torch.set_num_threads(1)
    samples = read_samples(config.corpus, config.split, world_taxonomy(config.world))
    if recorded is not None and recorded.is_file():
        corpus = corpus_of(Path(config.corpus))
        groups = read(recorded, prompts, completions, corpus, set(samples.sample_ids()))
    else:
        groups = record(config, samples, prompts, completions, recorded or Path("completions.jsonl"))
    cases = _cases(config, samples, groups)
    connect()
    ways = asyncio.run(_take_turns(config, cases, ("ddnm", "fast", "few", *(("again",) if again else ()))))
    figures = {"completions": prompts * completions, "valid": sum(len(case.queries) for case in cases)}
    figures |= {"actors": config.reward.actors, "ways": _figures(ways, cases)}
    _show(figures)
    return figures


def _cases(config: Config, samples: CorpusSplit, groups: Sequence[Recorded]) -> list[Case]:
    truth = dict(zip(samples.sample_ids(), samples.degradations(), strict=True))
    rows = {sample_id: row for row, sample_id in enumerate(samples.sample_ids())}
    cases = []
    for group in groups:
        prompt = Prompt(group.sample_id, samples[rows[group.sample_id]])
        environment = OfflineEnvironment([prompt], truth, world_taxonomy(config.world))
        verdicts = [environment.judge(prompt, Completion(text, (), ())) for text in group.texts]
        queries = tuple(verdict for verdict in verdicts if isinstance(verdict, RewardQuery))
        known = truth[group.sample_id]
        cases.append(Case(known.type, tuple(nearness_of(query.degradation, known) for query in queries), queries))
    return cases


async def _take_turns(config: Config, cases: Sequence[Case], ours: Sequence[str]) -> dict[str, Way]:
    prior = load_prior(config.reward.prior, config.world.size)
    pools = {name: RewardPool(_with_restorer(config, "ddnm" if name == "again" else name)) for name in ours}
    ways = {name: Way() for name in ("paper", *ours)}
    try:
        for pool in pools.values():
            await pool.start()
        for case in cases:
            for name, way in ways.items():
                pids = pools[name].processes().values() if name in pools else [os.getpid()]
                began, before = time.perf_counter(), _cpu_seconds(pids)
                if name == "paper":
                    rewards = _one_by_one(prior, case.queries, way)
                else:
                    rewards = await _in_pool(pools[name], case.queries, way, "/again" if name == "again" else "")
                way.rewards.append(rewards)
                way.seconds += time.perf_counter() - began
                way.cpu_seconds += _cpu_seconds(pids) - before
    finally:
        for pool in pools.values():
            await pool.close()
    return ways


def _with_restorer(config: Config, name: str) -> Config:
    return replace(config, reward=replace(config.reward, restorer=name, scorer=["mse"]))


def _one_by_one(prior: Prior, queries: Sequence[RewardQuery], way: Way) -> list[float]:
    """The paper's way: every valid completion walks all its steps alone, whoever asked the same before."""
    rewards = []
    for query in queries:
        restored = walk(prior, RESTORERS["ddnm"], query.sample.degraded, query.degradation, query.sample_id)
        way.image_steps += RESTORERS["ddnm"].steps
        rewards.append(-mse(restored, query.sample.clean))
    return rewards


@torch.inference_mode()
def walk(prior: Prior, restorer: Restorer, degraded: np.ndarray, degradation: Degradation, name: str) -> np.ndarray:
    """DDNM as it is written down, one picture from pure noise; float32 (H, W, 3) in [0, 1]."""
    y = torch.tensor(degraded).permute(2, 0, 1)[None].float() / 255
    times = [round(restorer.first * (1 - i / (restorer.steps - 1))) for i in range(restorer.steps)]
    levels = torch.cat([prior.alphas_cumprod[times], torch.ones(1)]).float()
    x = noise(name, 0, y.shape)
    for i, t in enumerate(times):
        eps, z = prior.eps(x, torch.tensor([t])), noise(name, i + 1, y.shape)
        x = step(x, eps, y, [degradation], [restorer], levels[i : i + 1], levels[i + 1 : i + 2], z)
    return ((x[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()


async def _in_pool(pool: RewardPool, queries: Sequence[RewardQuery], way: Way, suffix: str) -> list[float]:
    before = pool.stats().image_steps
    answers = await pool.score([replace(query, sample_id=query.sample_id + suffix) for query in queries])
    if failed := [answer for answer in answers if not isinstance(answer, Scored)]:
        raise RuntimeError(f"a query failed in the benchmark: {failed[0]}")
    way.image_steps += pool.stats().image_steps - before
    return [answer.reward for answer in answers]


def _cpu_seconds(pids: Iterable[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def _figures(ways: dict[str, Way], cases: Sequence[Case]) -> dict:
    """The factors of the seconds: fewer image-steps (asked once, no null space), and what the actors gain beside.

    nearness_blur: rank correlation of rewards with the nearness of the answer, of the type with one real key.
    """
    paper, ddnm, kinds = ways["paper"], ways["ddnm"], [case.kind for case in cases]
    distinct = sum(len({query.key for query in case.queries}) for case in cases)
    asked = sum(len(case.queries) for case in cases)
    figures = {}
    for name, way in ways.items():
        steps = paper.image_steps / max(1, way.image_steps)
        figures[name] = {
            "seconds": way.seconds,
            "cpu_seconds": way.cpu_seconds,
            "image_steps": way.image_steps,
            "times_fewer_seconds": paper.seconds / way.seconds,
            "times_fewer_cpu_seconds": paper.cpu_seconds / way.cpu_seconds,
            "times_fewer_by_asking_once": 1.0 if name == "paper" else asked / distinct,
            "times_fewer_image_steps": steps,
            "times_faster_image_steps": paper.seconds / way.seconds / steps,
            "largest_difference_from_paper": _largest_difference(paper.rewards, way.rewards),
            **fidelity(ddnm.rewards, way.rewards, kinds),
            "nearness_blur": fidelity([case.nearness for case in cases], way.rewards, kinds).get("spearman_blur"),
        }
    return figures


def _largest_difference(a: list[list[float]], b: list[list[float]]) -> float:
    return max(abs(x - y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def _show(figures: dict) -> None:
    ways = figures["ways"]
    title = f"{figures['completions']} completions, {figures['valid']} valid, {figures['actors']} actors"
    table = Table("", *ways, title=title)
    for measure in ways["paper"]:
        table.add_row(measure, *(_cell(way.get(measure)) for way in ways.values()))
    console = Console(width=120)
    console.print(table)
    for name, bounds in BOUNDS.items():
        for measure, bound in bounds.items():
            console.print(f"{name}: {measure} {_cell(ways[name].get(measure))} (bar {bound:g})")


def _cell(value: float | None) -> str:
    return "not to be had" if value is None else f"{value:.4g}"
