"""What each restorer reaches at true parameters on held-out photos, beside the classical method of each type.

The classical methods are the closed forms: Wiener filter (blur), pseudo-inverse (low resolution), interval midpoint
(low light), haze formula.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from configs import UserError
from configs.schema import Config
from envs.corpus import read_samples
from envs.metrics import mean_interval
from envs.policy_world import world_taxonomy
from envs.samples import Sample
from reward_actors.batch import restore_batch
from reward_actors.priors import load_prior
from reward_actors.restorers import RESTORERS
from reward_actors.scorers import psnr


def run(config: Config) -> dict:
    """Restores the first `limit` samples of `corpus`'s split with every restorer and `reward.prior`.

    Returns {type: {column: {"psnr": dB, "gain": [mean, low, high] over the closed form}}}, columns being `degraded`
    and the names of the restorers, and the seconds each took.
    """
    if not config.corpus:
        raise UserError("quality: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    torch.set_num_threads(1)
    samples = list(read_samples(config.corpus, config.split, world_taxonomy(config.world), config.limit))
    prior = load_prior(config.reward.prior, samples[0].degraded.shape[0])
    columns = {"degraded": [psnr(s.degraded, s.clean) for s in samples]}
    seconds = {}
    for name, restorer in RESTORERS.items():
        began = time.perf_counter()
        columns[name] = _psnr(prior, restorer, samples, config.reward.batch)
        seconds[name] = time.perf_counter() - began
    figures = {"samples": len(samples), "seconds": seconds, "types": _by_type(columns, samples)}
    _show(figures)
    return figures


def _psnr(prior, restorer, samples: list[Sample], capacity: int) -> list[float]:
    pictures = [s.degraded for s in samples]
    truths, names = [s.degradation for s in samples], [s.sample_id for s in samples]
    restored = restore_batch(prior, restorer, pictures, truths, names, capacity)
    return [psnr(picture, sample.clean) for picture, sample in zip(restored, samples, strict=True)]


def _by_type(columns: dict[str, list[float]], samples: list[Sample]) -> dict:
    result = {}
    for kind in dict.fromkeys(s.degradation.type for s in samples):
        rows = [i for i, s in enumerate(samples) if s.degradation.type == kind]
        best = np.array(columns["closed_form"])[rows]
        result[kind] = {
            name: {"psnr": float(np.mean(found := np.array(values)[rows])), "gain": mean_interval(list(found - best))}
            for name, values in columns.items()
        }
    return result


def _show(figures: dict) -> None:
    table = Table("type", *next(iter(figures["types"].values())), title="PSNR, dB (over closed form)")
    for kind, columns in figures["types"].items():
        cells = [f"{cell['psnr']:.2f} ({cell['gain'][0]:+.2f})" for cell in columns.values()]
        table.add_row(kind, *cells)
    table.add_row("seconds", "", *(f"{value:.0f}" for value in figures["seconds"].values()))
    Console(width=120).print(table)
