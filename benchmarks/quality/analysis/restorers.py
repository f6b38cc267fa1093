"""What each restorer reaches on held-out photographs, at true parameters and at wrong ones, beside classical methods.

Of the samples of a corpus, or of the central squares of `photos` under fixed degradations, the cases. Bar: the best
restorer is within .1 dB of the best classical method for every type, and above it for blur, low resolution and low
light. Haze fixes every pixel: there the closed form is already the ceiling.
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

from configs import UserError
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.corpus.generate import degrade
from envs.corpus.reader import read_samples
from envs.corpus.unlabelled import Photographs
from envs.degradations import PHENOMENA, physics
from envs.degradations.base import flatten
from envs.taxonomy import Degradation, Taxonomy
from envs.types import Sample
from envs.world import world_taxonomy
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import RESTORERS, Restorer, restorer
from reward_actors.restoration.running_batch import restore_batch, to_uint8
from reward_actors.scoring.scorer import psnr

WITHIN = 0.1
OFF = {"-15 %": 0.85, "+15 %": 1.15}
"""Factors of every key but those that count, for the table of robustness."""
CALLS = 24
"""Restorers of more denoiser calls are shown at true parameters only."""


def run(config: Config, restorers: Sequence[str] = (), cases: Sequence[str] = ()) -> dict:
    """Restores the first `limit` samples of `corpus`'s split, or the first `limit` photographs under each case.

    Args:
        restorers: NAME or NAME:STEPS each; all by default.
        cases: TYPE:NUMBER,... each, a number for each key of the type in turn, as in blur:2.0.

    Returns {"samples", "seconds": {restorer: s}, "types": {type or case: see `compare`, and "off": {one of `OFF`:
    {restorer: {"psnr": dB at values off by so much, "gain": [mean, low, high] over the first restorer}}}}}.
    """
    torch.set_num_threads(1)
    taxonomy = world_taxonomy(config.world)
    if cases:
        samples = _samples_of(config, [_case(text, taxonomy) for text in cases])
    elif config.corpus:
        samples = list(read_samples(Path(config.corpus), config.split, taxonomy, config.limit))
    else:
        raise UserError("quality: expected corpus=FOLDER, or --cases; `duvlm run corpus out=FOLDER` builds a corpus")
    columns = {text: _restorer(text) for text in restorers or ("closed_form", *RESTORERS)}
    prior = load_prior(config.reward.prior, samples[0].degraded.shape[0])
    restored, seconds = {}, {}
    for name, chosen in columns.items():
        began = time.perf_counter()
        restored[name] = _restore(prior, chosen, samples, config.reward.batch)
        seconds[name] = time.perf_counter() - began
    off: dict[str, dict] = {}
    for error, factor in OFF.items():
        scaled = [_scaled(sample, factor, taxonomy) for sample in samples]
        rows = [i for i, sample in enumerate(samples) if scaled[i].degradation != sample.degradation]
        off[error] = {
            name: dict(zip(rows, _restore(prior, chosen, [scaled[i] for i in rows], config.reward.batch), strict=True))
            for name, chosen in columns.items()
            if chosen.calls <= CALLS
        }
    types = {}
    labels = [_label(sample, bool(cases)) for sample in samples]
    for label in dict.fromkeys(labels):
        rows = [i for i, other in enumerate(labels) if other == label]
        some, kind = [samples[i] for i in rows], samples[rows[0]].degradation.type
        types[label] = compare(
            kind,
            [psnr(s.degraded, s.clean) for s in some],
            {name: _classical(method, some) for name, method in physics(kind).classical().items()},
            {name: [column[i] for i in rows] for name, column in restored.items()},
        )
        types[label]["off"] = {
            error: _beside_first({name: [column[i] for i in rows] for name, column in at_error.items()})
            for error, at_error in off.items()
            if rows[0] in next(iter(at_error.values()))
        }
    figures = {"samples": len(samples), "seconds": seconds, "types": types}
    _show(figures, columns)
    return figures


def _case(text: str, taxonomy: Taxonomy) -> Degradation:
    """Reads TYPE:NUMBER,... as a degradation."""
    name, _, numbers = text.partition(":")
    try:
        keys = taxonomy[name].keys
        values = dict(zip((key.name for key in keys), map(float, numbers.split(",")), strict=True))
    except (StopIteration, ValueError):
        singles = ", ".join(f"{kind.name}:{','.join(key.name for key in kind.keys)}" for kind in taxonomy.singles)
        raise UserError(f"--cases {text}: expected a type and a number for each of its keys, {singles}") from None
    return taxonomy.degradation(name, values)


def _label(sample: Sample, whole: bool) -> str:
    """Names the case of a sample, or its type alone."""
    degradation = sample.degradation
    numbers = " ".join(f"{number:g}" for _, value in degradation.values for number in flatten(value))
    return f"{degradation.type} {numbers}" if whole else degradation.type


def _samples_of(config: Config, cases: Sequence[Degradation]) -> list[Sample]:
    photographs = Photographs(config.photos, config.world.size)
    names = photographs.sample_ids()[: config.limit or None]
    pictures = [photographs[i].degraded for i in range(len(names))]
    return [
        Sample(name, name, "test", degrade(clean, case), clean, case)
        for case in cases
        for name, clean in zip(names, pictures, strict=True)
    ]


def _restorer(text: str) -> Restorer:
    """Reads NAME or NAME:STEPS."""
    name, _, steps = text.partition(":")
    if steps and not steps.isdecimal():
        raise UserError(f"--restorers {text}: expected NAME or NAME:STEPS")
    return restorer(name, int(steps or 0))


def _beside_first(columns: Mapping[str, Sequence[float]]) -> dict:
    first = next(iter(columns.values()))
    return {
        name: {"psnr": float(np.mean(values)), "gain": list(mean_interval(np.subtract(values, first)))}
        for name, values in columns.items()
    }


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


def _show(figures: Mapping, columns: Mapping[str, Restorer]) -> None:
    table = Table("type", "degraded", "classical", title="PSNR at true parameters, dB (over the best classical method)")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("bar")
    for label, row in figures["types"].items():
        methods = "\n".join(f"{name} {value:.2f}" for name, value in row["classical"].items())
        met = "met" if row["meets_bar"] else "missed"
        cells = [_cell(cell) for cell in row["restorers"].values()]
        table.add_row(label, f"{row['degraded']:.2f}", methods, *cells, met)
        for error, others in row["off"].items():
            at_error = (_cell(others[name]) if name in others else "" for name in columns)
            table.add_row(f"  values {error}", "", f"(over {next(iter(others))})", *at_error, "")
    table.add_row("calls", "", "", *(str(chosen.calls) for chosen in columns.values()), "")
    table.add_row("seconds", "", "", *(f"{value:.0f}" for value in figures["seconds"].values()), "")
    Console(width=60 + 22 * len(columns)).print(table)


def _cell(figures: Mapping) -> str:
    gain, low, high = figures["gain"]
    return f"{figures['psnr']:.2f}\n{gain:+.2f} [{low:+.2f}, {high:+.2f}]"
