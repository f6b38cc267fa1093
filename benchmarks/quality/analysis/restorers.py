"""What each restorer reaches at true parameters on held-out photos, beside the classical methods of each type.

Bar: the best restorer is within .1 dB of the best classical method for every type, and above it for blur, low
resolution and low light. Haze fixes every pixel: there the closed form is already the ceiling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.quality.report.tables import type_name
from configs import UserError
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.corpus.reader import read_samples
from envs.degradations import PHENOMENA, physics
from envs.taxonomy import Taxonomy
from envs.types import Sample
from envs.world import world_taxonomy
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import RESTORERS
from reward_actors.restoration.running_batch import restore_batch, to_uint8
from reward_actors.scoring.scorer import psnr

WITHIN = 0.1
OFF = {"-15 %": 0.85, "+15 %": 1.15}
"""Factors of every key but those that count, for the table of robustness."""
CALLS = 24
"""Restorers of more denoiser calls are shown at true parameters only."""


def run(config: Config) -> dict:
    """Restores the first `limit` samples of `corpus`'s split with every restorer and `reward.prior`.

    Returns {"samples", "seconds": {restorer: s}, "types": {type: see `compare`, and "off": {one of `OFF`: {restorer:
    dB at values off by so much}}}}.
    """
    if not config.corpus:
        raise UserError("quality: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    torch.set_num_threads(1)
    taxonomy = world_taxonomy(config.world)
    samples = list(read_samples(Path(config.corpus), config.split, taxonomy, config.limit))
    prior = load_prior(config.reward.prior, samples[0].degraded.shape[0])
    restored, seconds = {}, {}
    for name, restorer in RESTORERS.items():
        began = time.perf_counter()
        restored[name] = _restore(prior, restorer, samples, config.reward.batch)
        seconds[name] = time.perf_counter() - began
    off = {
        error: {
            name: _restore(prior, restorer, [_scaled(s, factor, taxonomy) for s in samples], config.reward.batch)
            for name, restorer in RESTORERS.items()
            if restorer.calls <= CALLS
        }
        for error, factor in OFF.items()
    }
    types = {}
    for kind in dict.fromkeys(s.degradation.type for s in samples):
        rows = [i for i, sample in enumerate(samples) if sample.degradation.type == kind]
        chosen = [samples[i] for i in rows]
        types[kind] = compare(
            kind,
            [psnr(s.degraded, s.clean) for s in chosen],
            {name: _classical(method, chosen) for name, method in physics(kind).classical().items()},
            {name: [column[i] for i in rows] for name, column in restored.items()},
        )
        types[kind]["off"] = {
            error: {name: float(np.mean([column[i] for i in rows])) for name, column in columns.items()}
            for error, columns in off.items()
        }
    figures = {"samples": len(samples), "seconds": seconds, "types": types}
    _show(figures)
    return figures


def compare(
    kind: str,
    degraded: Sequence[float],
    methods: Mapping[str, Sequence[float]],
    restorers: Mapping[str, Sequence[float]],
) -> dict:
    """Compares the PSNR of one type's samples under each method and restorer, a number a sample, in pairs.

    Returns {"degraded": dB, "classical": {name: dB}, "best_classical": name, "restorers": {name: {"psnr", "gain":
    [mean, low, high] over the best classical method}}, "best_restorer": name, "meets_bar"}.
    """
    best = max(methods, key=lambda name: np.mean(methods[name]))
    cells: dict[str, dict[str, Any]] = {
        name: {"psnr": float(np.mean(values)), "gain": list(mean_interval(np.subtract(values, methods[best])))}
        for name, values in restorers.items()
    }
    winner = max(cells, key=lambda name: cells[name]["psnr"])
    gain = cells[winner]["gain"][0]
    return {
        "samples": len(degraded),
        "degraded": float(np.mean(degraded)),
        "classical": {name: float(np.mean(values)) for name, values in methods.items()},
        "best_classical": best,
        "restorers": cells,
        "best_restorer": winner,
        "meets_bar": bool(gain > 0 if kind in PHENOMENA and PHENOMENA[kind].has_null_space else gain >= -WITHIN),
    }


def _scaled(sample: Sample, factor: float, taxonomy: Taxonomy) -> Sample:
    """Multiplies the values of a sample's degradation, within their ranges; keys that count stay."""
    degradation, values = sample.degradation, {}
    for name, value in degradation.values:
        key = taxonomy.keys[name]
        scaled = np.clip(np.asarray(value) * factor, key.low, key.high)
        values[name] = value if key.is_class else scaled.tolist()
    return replace(sample, degradation=taxonomy.degradation(degradation.type, values))


def _restore(prior, restorer, samples: Sequence[Sample], capacity: int) -> list[float]:
    pictures = [s.degraded for s in samples]
    truths, names = [s.degradation for s in samples], [s.sample_id for s in samples]
    restored = restore_batch(prior, restorer, pictures, truths, names, capacity)
    return [psnr(to_uint8(picture), sample.clean) for picture, sample in zip(restored, samples, strict=True)]


def _classical(method: Callable, samples: Sequence[Sample]) -> list[float]:
    return [psnr(to_uint8(method(s.degraded, s.degradation)), s.clean) for s in samples]


def _show(figures: Mapping) -> None:
    table = Table("type", "degraded", "classical", title="PSNR at true parameters, dB (over the best classical method)")
    for name in figures["seconds"]:
        table.add_column(name, justify="right")
    table.add_column("bar")
    for kind, figures_of_type in figures["types"].items():
        methods = "\n".join(f"{name} {value:.2f}" for name, value in figures_of_type["classical"].items())
        cells = [
            f"{cell['psnr']:.2f}\n{cell['gain'][0]:+.2f} [{cell['gain'][1]:+.2f}, {cell['gain'][2]:+.2f}]"
            for cell in figures_of_type["restorers"].values()
        ]
        met = "met" if figures_of_type["meets_bar"] else "missed"
        table.add_row(type_name(kind), f"{figures_of_type['degraded']:.2f}", methods, *cells, met)
        for error, cells in figures_of_type["off"].items():
            at_error = (f"{cells[name]:.2f}" if name in cells else "" for name in figures["seconds"])
            table.add_row(f"  values {error}", "", "", *at_error, "")
    table.add_row("calls", "", "", *(str(RESTORERS[name].calls) for name in figures["seconds"]), "")
    table.add_row("seconds", "", "", *(f"{value:.0f}" for value in figures["seconds"].values()), "")
    Console(width=170).print(table)
