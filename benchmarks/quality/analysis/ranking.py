"""How well the rewards of a group rank its answers: by nearness to the truth, and as another restorer ranks them.

A photograph is degraded, alone or with the noise and JPEG of a common file, and answers to it are drawn: spread around
the truth by so much, or as a policy believes them. The reward of an answer is -MSE of the restoration by it; equal
answers are restored once, and all answers to a picture with the same noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.quality.analysis.beliefs import of_policy
from benchmarks.quality.analysis.gradient import Picture
from benchmarks.throughput.reward.fidelity import rank_correlation, rounded
from configs import UserError
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.corpus.generate import degrade
from envs.corpus.unlabelled import Photographs
from envs.degradations import sample as draw
from envs.nuisances import Nuisances
from envs.taxonomy import Degradation, Key, Taxonomy
from envs.world import world_taxonomy
from reward_actors.priors.base import Prior
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import mse

GROUPS = 32
"""How many of each type are drawn where `limit` is not set."""
CONDITIONS = {"none": None, "noise 3, JPEG 85": Nuisances(sensor_noise=3.0, jpeg_quality=85)}
POLICY = "policy"


@dataclass(frozen=True)
class Group:
    """Holds a picture and the answers to it that a group consists of.

    spread: how they were drawn, by a share of the truth as in `10%`, or `POLICY`. condition: one of `CONDITIONS`.
    nearness: of each answer, the negative mean relative error of its numbers.
    """

    picture: Picture
    spread: str
    condition: str
    answers: tuple[Degradation, ...]
    nearness: tuple[float, ...]


def run(
    config: Config,
    types: Sequence[str],
    restorers: Sequence[str],
    widths: Sequence[float],
    answers: int,
    reference: str,
    conditions: int,
    scores: Path | None,
) -> dict:
    """Measures `limit` (32) groups of each type, spread and condition, from the photographs of `photos` in turn.

    Args:
        types: those with numbers by default. widths: spreads; the policy's own where there are none.
        answers: in a group. reference: the restorer whose ranking the others are compared with; empty for none.
        conditions: how many of `CONDITIONS`. scores: a JSON file of rewards: those it has are not computed again.

    Returns {"groups", "rows": [{"type", "spread", "condition", "restorer", "spearman", "worst", "top1", "regret",
    "reference": see `measure`}]}.
    """
    torch.set_num_threads(1)
    taxonomy, size = world_taxonomy(config.world), config.world.size
    photographs = Photographs(config.photos, size)
    prior = load_prior(config.reward.prior, size)
    memory: dict[str, list[float]] = json.loads(scores.read_text()) if scores and scores.is_file() else {}
    rows = []
    for kind in types or [kind.name for kind in taxonomy.singles if kind.keys]:
        if any(key.shape for key in taxonomy[kind].keys):
            raise UserError(f"reward-quality: expected types whose keys are single numbers, got {kind}")
        for condition, spread in product(list(CONDITIONS)[:conditions], [f"{w:.0%}" for w in widths] or [POLICY]):
            groups = _groups(config, photographs, kind, spread, condition, answers, taxonomy)
            rewards = {
                name: [_rewards(config, prior, name, group, memory) for group in groups]
                for name in dict.fromkeys([*([reference] if reference else []), *restorers])
            }
            for name, column in rewards.items():
                about = {"type": kind, "spread": spread, "condition": condition, "restorer": name}
                rows.append(about | measure([g.nearness for g in groups], column, rewards.get(reference)))
            if scores:
                scores.write_text(json.dumps(memory) + "\n")
    figures = {"groups": config.limit or GROUPS, "rows": rows}
    _show(figures, reference)
    return figures


def measure(
    nearness: Sequence[Sequence[float]],
    rewards: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]] | None = None,
) -> dict:
    """Measures groups; one whose answers are all as near, or whose reference does not rank them, does not count.

    Returns {"groups", "spearman": with nearness, mean over groups, "top1": share of groups whose best reward has the
    nearest answer, "regret": how much farther from the truth it is than the nearest, as a share of the truth, all
    [mean, low, high]; "worst": the least rank correlation, "reference": [mean, low, high, worst] of that with the
    reference's rewards}.
    """
    pairs = [(np.array(a), rounded(b)) for a, b in zip(nearness, rewards, strict=True) if len(set(a)) > 1]
    if not pairs:
        return {"groups": 0}
    correlations = [rank_correlation(a, b) for a, b in pairs]
    regrets = [a.max() - a[b.argmax()] for a, b in pairs]
    figures = {
        "groups": len(pairs),
        "spearman": list(mean_interval(correlations)),
        "worst": min(correlations),
        "top1": list(mean_interval([float(regret == 0) for regret in regrets])),
        "regret": list(mean_interval(regrets)),
    }
    others = zip(reference or (), rewards, strict=bool(reference))
    ranked = [rank_correlation(rounded(a), rounded(b)) for a, b in others if len(np.unique(rounded(a))) >= 3]
    return figures | ({"reference": [*mean_interval(ranked), min(ranked)]} if ranked else {})


def _groups(
    config: Config,
    photographs: Photographs,
    kind: str,
    spread: str,
    condition: str,
    count: int,
    taxonomy: Taxonomy,
) -> list[Group]:
    """Draws groups as a function of the seed: photographs in turn, equal degradations whatever the spread."""
    pictures, names = [], photographs.sample_ids()
    for i in range(config.limit or GROUPS):
        truth = draw(taxonomy, kind, np.random.default_rng([config.seed, i]), config.world.size)
        clean = photographs[i % len(photographs)].degraded
        degraded = degrade(clean, truth, nuisances=CONDITIONS[condition])
        pictures.append(Picture(f"{names[i % len(names)]}/{i}", clean, degraded, truth))
    keys = taxonomy[kind].keys
    beliefs = of_policy(config, pictures, taxonomy) if spread == POLICY else [None] * len(pictures)
    groups = []
    for i, (picture, belief) in enumerate(zip(pictures, beliefs, strict=True)):
        rng = np.random.default_rng([config.seed, i, 1])
        if belief is None:
            width = float(spread.rstrip("%")) / 100
            drawn = [[_off(key, picture.degradation[key.name], width, rng) for key in keys] for _ in range(count)]
        else:
            places = belief.draw(count, rng)
            drawn = [[axis[at] for axis, at in zip(belief.axes, row, strict=True)] for row in places]
        named = [dict(zip((key.name for key in keys), numbers, strict=True)) for numbers in drawn]
        answers = tuple(taxonomy.degradation(kind, each) for each in named)
        nearness = tuple(nearness_of(answer, picture.degradation) for answer in answers)
        groups.append(Group(picture, spread, condition, answers, nearness))
    return groups


def _off(key: Key, truth: float, width: float, rng: np.random.Generator) -> float:
    """Draws a number off by N(0, width) of the truth; one that counts is off by -1, 0 or 1."""
    number = truth + rng.integers(-1, 2) if key.is_class else truth * (1 + width * rng.normal())
    return float(np.clip(number, key.low, key.high))


def nearness_of(answer: Degradation, truth: Degradation) -> float:
    """Computes the negative mean relative error of an answer's scalar keys."""
    errors = [abs(answer[key] - value) / abs(value) for key, value in truth.values if isinstance(value, float | int)]
    return -sum(errors) / max(1, len(errors))


def _rewards(config: Config, prior: Prior, name: str, group: Group, memory: dict[str, list[float]]) -> list[float]:
    """Rewards a group's answers by a restorer, or remembers what it got."""
    chosen, picture, noise = restorer(name), group.picture, config.reward.noise
    question = repr((group.answers, noise)).encode() + picture.degraded.tobytes() + picture.clean.tobytes()
    key = f"{name} {chosen.fingerprint(prior)} {hashlib.sha256(question).hexdigest()[:16]}"
    if key not in memory:
        answers = list(dict.fromkeys(group.answers))
        given, names = [picture.degraded] * len(answers), [picture.name] * len(answers)
        restored = restore_batch(prior, chosen, given, answers, names, config.reward.batch, noise)
        worth = {answer: -mse(each, picture.clean) for answer, each in zip(answers, restored, strict=True)}
        memory[key] = [round(worth[answer], 9) for answer in group.answers]
    return memory[key]


def _show(figures: Mapping, reference: str) -> None:
    title = f"Ranking of {figures['groups']} groups a row: rank correlation with nearness to the truth, mean (worst)"
    table = Table("type", "answers off by", "nuisances", "restorer", "with nearness", "best is nearest", title=title)
    table.add_column("regret, % of truth")
    if reference:
        table.add_column(f"with {reference}")
    for row in figures["rows"]:
        cells = [row["type"], row["spread"], row["condition"], row["restorer"]]
        if row["groups"]:
            cells.append(f"{_cell(row['spearman'])} ({row['worst']:.2f})")
            cells += [_cell(row["top1"]), _cell([100 * number for number in row["regret"]], 2)]
        if "reference" in row:
            cells.append(f"{_cell(row['reference'][:3])} ({row['reference'][3]:.2f})")
        table.add_row(*cells)
    Console(width=150).print(table)


def _cell(figures: Sequence[float], digits: int = 3) -> str:
    middle, low, high = (f"{number:.{digits}f}" for number in figures)
    return f"{middle} [{low}, {high}]"
