"""How well a network that does nothing else reads each number off the picture: what a policy is held against.

It is no bound. But where it reads a key no better than the policy does, more training on the same pictures is unlikely
to move that key: they do not say more, or do not teach it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality.regressor import fit, read
from configs import UserError
from configs.schema import Config
from envs.corpus.reader import read_samples
from envs.language.reading import read_degradation
from envs.metrics import measure
from envs.world import world_taxonomy


def run(config: Config, updates: int = 6000) -> dict:
    """Trains on the train split of `corpus`, measures `limit` samples of `split`.

    Returns {"updates", "seconds", "loss": mean of the last tenth, "keys": {key: {"p_rel": [value, low, high],
    "samples"}}, "p_rel": mean over keys [value, low, high]}.

    Raises:
        UserError: no corpus, a split without samples, or no update.
    """
    if not config.corpus:
        raise UserError("ceiling: expected corpus=FOLDER; `duvlm run corpus count=8000 out=FOLDER` builds one")
    if updates < 1:
        raise UserError(f"--updates: expected at least 1 optimiser step, got {updates}; leave it out for 6000")
    taxonomy, names = world_taxonomy(config.world), config.world.views
    train = read_samples(Path(config.corpus), "train", taxonomy)
    samples = list(read_samples(Path(config.corpus), config.split, taxonomy, config.limit))
    began = time.perf_counter()
    network, losses = fit(train, taxonomy, names, updates, config.seed)
    seconds = time.perf_counter() - began
    truths = [sample.degradation for sample in samples]
    answers = [read_degradation(found) for found in read(network, samples, taxonomy, names)]
    found = measure(truths, answers, taxonomy, seed=config.seed)
    figures = {
        "updates": updates,
        "seconds": seconds,
        "loss": float(np.mean(losses[-max(1, updates // 10) :])),
        "keys": {
            name: {"p_rel": [of["p_rel"], *found.intervals[f"{name}.p_rel"]], "samples": of["samples"]}
            for name, of in found.keys.items()
        },
        "p_rel": [found.p_rel, *found.intervals["p_rel"]],
    }
    _show(figures)
    return figures


def _show(figures: dict) -> None:
    table = Table("key", "P-Rel, 95 % interval", "samples", title="what a network that is told the type reads")
    for name, of in figures["keys"].items():
        table.add_row(name, _interval(of["p_rel"]), str(of["samples"]))
    table.add_row("mean", _interval(figures["p_rel"]), "")
    console = Console()
    console.print(table)
    console.print(f"{figures['updates']} updates in {figures['seconds']:.0f} s; loss {figures['loss']:.4f}")


def _interval(found: Sequence[float]) -> str:
    value, low, high = found
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
