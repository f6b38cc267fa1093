"""How far a group's policy gradient is from the exact one: plain GRPO, and with fitted rewards (docs/learning.md).

A picture is degraded; the policy's belief about the numbers is a density on their grids. The reward of every grid point
is known (restorations on a lattice over the belief, splines between), so the gradient of the mean reward by the logits
of the numbers' tokens is a sum. Beside it stand the estimates from groups drawn from the belief. Bar: with one number
and a group of 8 the fitted estimate has a twentieth of plain GRPO's mean squared error, with two a fifth, and with 16 a
fiftieth.

A network moves the logits of neighbouring values together. So the same is measured of the gradient by the centre and
the logarithm of the width of each number's belief alone, where the noise of single logits averages out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.interpolate import RectBivariateSpline, make_interp_spline

from benchmarks.quality.analysis.beliefs import Belief, normal, of_policy
from benchmarks.quality.report.tables import type_name
from configs.schema import Config
from envs.bootstrap import RESAMPLES, Interval, interval
from envs.corpus.generate import degrade
from envs.corpus.unlabelled import Photographs
from envs.degradations import sample as draw
from envs.taxonomy import Degradation, Taxonomy
from envs.world import world_taxonomy
from learner.fitted.curve import FEWEST, fit
from reward_actors.priors.base import Prior
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import Restorer
from reward_actors.restoration.presets import restorer as named
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.scoring.scorer import mse

PHOTOGRAPHS = 24
"""How many are looked at where `limit` is not set."""
NODES = {1: 17, 2: 9}
"""Restorations along each axis of the lattice, by the count of numbers."""
BARS = {(1, 8): 20.0, (2, 8): 5.0, (2, 16): 50.0}
"""How many times less the fitted estimate's error is to be, by the count of numbers and the size of the group."""


@dataclass(frozen=True)
class Picture:
    """Holds a photograph and what was made of it, uint8 (H, W, 3) both."""

    name: str
    clean: np.ndarray
    degraded: np.ndarray
    degradation: Degradation


Gradient = tuple[np.ndarray, ...]
"""Derivatives of the mean reward by the logits of each number's tokens, float64 (n,) over the grid points of a belief;
those of a second number are summed over the first."""


def run(
    config: Config,
    types: Sequence[str],
    restorers: Sequence[str],
    groups: Sequence[int],
    widths: Sequence[float],
    draws: int,
    posteriors: bool,
) -> dict:
    """Measures `limit` (24) photographs of `photos`.

    Returns {"photographs", "draws", "rows": [{"restorer", "type", "belief", "group", "plain", "fitted", "bias",
    "times": [median, low, high]}]}: mean squared errors and squared bias over the squared norm of the exact gradient,
    and how many times less the fitted one is, medians over photographs; beside them "moved_plain" and so on.
    """
    torch.set_num_threads(1)
    taxonomy, size = world_taxonomy(config.world), config.world.size
    photographs = Photographs(config.photos, size)
    names = photographs.sample_ids()[: config.limit or PHOTOGRAPHS]
    clean = [photographs[i].degraded for i in range(len(names))]
    prior = load_prior(config.reward.prior, size)
    rows = []
    for kind in types or _of_fine_numbers(taxonomy):
        pictures = [
            _picture(name, picture, kind, taxonomy, size, [config.seed, i])
            for i, (name, picture) in enumerate(zip(names, clean, strict=True))
        ]
        believed = {f"{width:.0%}": _spread(pictures, width, taxonomy, config.seed) for width in widths}
        if posteriors:
            believed["policy"] = of_policy(config, pictures, taxonomy)
        for name, (label, beliefs) in product(restorers, believed.items()):
            measured = []
            for i, (picture, belief) in enumerate(zip(pictures, beliefs, strict=True)):
                rewards = reward_table(prior, named(name), picture, belief, taxonomy, config.reward.batch)
                rng = np.random.default_rng([config.seed, i])
                measured.append([errors(belief, rewards, group, draws, rng) for group in groups])
            for group, cells in zip(groups, zip(*measured, strict=True), strict=True):
                rows.append({"restorer": name, "type": kind, "belief": label, "group": group, **summarise(cells)})
    _show(rows, taxonomy, len(names))
    return {"photographs": len(names), "draws": draws, "rows": rows}


def _of_fine_numbers(taxonomy: Taxonomy) -> list[str]:
    """Names the types of numbers with a fine grid, one value for the picture: blur and low light of the paper's."""
    singles = [kind for kind in taxonomy.singles if kind.keys and not kind.follows_depth]
    return [kind.name for kind in singles if all(not key.shape and key.decimals for key in kind.keys)]


def reward_table(
    prior: Prior, restorer: Restorer, picture: Picture, belief: Belief, taxonomy: Taxonomy, batch: int
) -> np.ndarray:
    """Computes -MSE of the restoration by each point of a belief's grids: float64 (n,) or (n, m)."""
    count = NODES[len(belief.axes)]
    nodes = [np.unique(np.linspace(0, len(axis) - 1, count).round().astype(int)) for axis in belief.axes]
    names = [key.name for key in belief.keys]
    points = list(product(*(axis[at].tolist() for axis, at in zip(belief.axes, nodes, strict=True))))
    kind = picture.degradation.type
    answers = [taxonomy.degradation(kind, dict(zip(names, point, strict=True))) for point in points]
    count = len(answers)
    restored = restore_batch(prior, restorer, [picture.degraded] * count, answers, [picture.name] * count, batch)
    rewards = np.array([-mse(each, picture.clean) for each in restored]).reshape([len(at) for at in nodes])
    logs = [np.log(axis) for axis in belief.axes]
    known = [log[at] for log, at in zip(logs, nodes, strict=True)]
    if len(logs) == 1:
        return make_interp_spline(known[0], rewards, k=min(3, len(known[0]) - 1))(logs[0])
    orders = [min(3, len(each) - 1) for each in known]
    return RectBivariateSpline(*known, rewards, kx=orders[0], ky=orders[1])(*logs)


def exact(belief: Belief, rewards: np.ndarray) -> Gradient:
    """Sums the gradient of the mean reward over the grid."""
    if belief.second is None:
        return (centred(belief.first, rewards),)
    given = (belief.second * rewards).sum(1)
    following = belief.first[:, None] * belief.second * (rewards - given[:, None])
    return centred(belief.first, given), following.sum(0)


def plain(belief: Belief, drawn: np.ndarray, rewards: np.ndarray) -> Gradient:
    """Estimates it as GRPO does: each answer's advantage times the gradient of its log-probability.

    drawn: int (G, numbers), the grid points of the answers. rewards: (n,) or (n, m).
    """
    advantages = rewards[tuple(drawn.T)]
    advantages = advantages - advantages.mean()
    densities = [np.tile(belief.first, (len(drawn), 1))]
    if belief.second is not None:
        densities.append(belief.second[drawn[:, 0]])
    parts = []
    for column, density in zip(drawn.T, densities, strict=True):
        counted = np.bincount(column, advantages, density.shape[1])
        parts.append((counted - advantages @ density) / len(drawn))
    return tuple(parts)


def fitted(belief: Belief, drawn: np.ndarray, rewards: np.ndarray) -> Gradient:
    """Estimates it from the curve through the answers' rewards; plain where too few of them differ."""
    points = np.unique(drawn, axis=0)
    if len(points) < FEWEST:
        return plain(belief, drawn, rewards)
    values = np.stack([axis[column] for axis, column in zip(belief.axes, points.T, strict=True)], axis=1)
    curve = fit(belief.keys, values, rewards[tuple(points.T)])
    if belief.second is None:
        return (centred(belief.first, curve.last(())[belief.inside[0]]),)
    start, stop = belief.inside[1].start, belief.inside[1].stop
    following = belief.second[drawn[:, 0]]
    densities = np.pad(following, ((0, 0), (start, belief.keys[1].bins - stop)))
    seen = drawn[:, 0] + belief.inside[0].start
    first = curve.first(seen, densities)[belief.inside[0]]
    second = [centred(d, curve.last([i])[start:stop]) for d, i in zip(following, seen, strict=True)]
    return centred(belief.first, first), np.mean(second, axis=0)


def centred(density: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Computes the derivatives of a mean worth by the logits of its density."""
    return density * (worth - density @ worth)


def moved(belief: Belief, gradient: Gradient) -> np.ndarray:
    """Returns the derivatives by the centre, in widths, and by the logarithm of the width of each number's belief."""
    densities = [belief.first] if belief.second is None else [belief.first, belief.first @ belief.second]
    parts = []
    for axis, density, part in zip(belief.axes, densities, gradient, strict=True):
        away = np.log(axis) - density @ np.log(axis)
        away /= np.sqrt(density @ away**2)
        parts += [part @ away, part @ away**2]
    return np.array(parts)


VIEWS: dict[str, Callable[[Belief, Gradient], np.ndarray]] = {
    "": lambda belief, gradient: np.concatenate(gradient),
    "moved_": moved,
}
"""What of a gradient is compared: all of it, and what moves or widens a belief."""


def errors(belief: Belief, rewards: np.ndarray, group: int, draws: int, rng: np.random.Generator) -> dict:
    """Measures one picture: {"plain", "fitted": mean squared error, "bias": the squared bias of the latter}, all over
    the squared norm of the exact gradient; and the same of what `moved` returns, as "moved_plain" and so on."""
    estimates = {"plain": [], "fitted": []}
    for _ in range(draws):
        drawn = belief.draw(group, rng)
        estimates["plain"].append(plain(belief, drawn, rewards))
        estimates["fitted"].append(fitted(belief, drawn, rewards))
    truth, cell = exact(belief, rewards), {}
    for prefix, view in VIEWS.items():
        wanted = view(belief, truth)
        norm = wanted @ wanted
        away = {name: np.array([view(belief, each) - wanted for each in some]) for name, some in estimates.items()}
        cell |= {prefix + name: float(np.square(rows).sum(1).mean() / norm) for name, rows in away.items()}
        mean = away["fitted"].mean(0)
        bias = float(mean @ mean / norm)
        cell[prefix + "bias"] = bias - (cell[prefix + "fitted"] - bias) / (draws - 1)  # less what few draws add
    return cell


def summarise(cells: Sequence[Mapping[str, float]], seed: int = 0) -> dict[str, list[float]]:
    """Takes medians over photographs, with 95 % intervals; "times" is that of plain over fitted."""
    columns = {name: np.array([cell[name] for cell in cells]) for name in cells[0]}
    for prefix in VIEWS:
        columns[prefix + "times"] = columns[prefix + "plain"] / columns[prefix + "fitted"]
    return {name: list(median_interval(values, seed)) for name, values in columns.items()}


def median_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Computes a median and its 95 % bootstrap interval."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return (float(np.median(values)), *interval(np.median(values[drawn], axis=1)))


def _picture(name: str, clean: np.ndarray, kind: str, taxonomy: Taxonomy, size: int, seed: list[int]) -> Picture:
    degradation = draw(taxonomy, kind, np.random.default_rng(seed), size)
    return Picture(name, clean, degrade(clean, degradation), degradation)


def _spread(pictures: Sequence[Picture], width: float, taxonomy: Taxonomy, seed: int) -> list[Belief]:
    return [
        normal(picture.degradation, width, taxonomy, np.random.default_rng([seed, i]))
        for i, picture in enumerate(pictures)
    ]


def _show(rows: Sequence[Mapping], taxonomy: Taxonomy, photographs: int) -> None:
    title = f"Mean squared error of a group's gradient over its squared norm, medians of {photographs} photographs"
    columns = ("restorer", "type", "belief", "group", "plain", "fitted", "bias", "times less")
    table = Table(*columns, "centre, width: plain", "fitted", "times less", "bar", title=title)
    shown = ("plain", "fitted", "bias", "times", "moved_plain", "moved_fitted", "moved_times")
    for row in rows:
        bar = BARS.get((len(taxonomy[row["type"]].keys), row["group"]))
        met = "" if bar is None else f"{bar:g} {'met' if row['times'][0] >= bar else 'missed'}"
        cells = [_cell(row[name]) for name in shown]
        table.add_row(row["restorer"], type_name(row["type"]), row["belief"], str(row["group"]), *cells, met)
    Console(width=200).print(table)


def _cell(figures: Sequence[float]) -> str:
    middle, low, high = (f"{number:.2g}" if number < 100 else f"{number:.0f}" for number in figures)
    return f"{middle} [{low}, {high}]"
