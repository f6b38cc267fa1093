"""Restorations and what they are worth, by columns: the policy's parameters, the true ones, classical methods.

A restoration is asked for by a `Task`. Here a few are done in this process; `parallel` does many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from benchmarks.quality import scores
from configs.schema import Reward
from envs.taxonomy import Degradation
from envs.types import Sample

SCORED = 8
"""Samples of each type whose restorations get no-reference scores, at most: these cost more than restoring."""


@dataclass(frozen=True)
class Task:
    """How one sample is restored.

    method: `diffusion` (the restorer and prior of the config), `classical` (same parameters, no prior), `blind` (the
    type alone: `degradation.type`), `clean` (the truth itself, for its scores), or `none`.
    scored: whether it gets no-reference scores.
    """

    method: str = "none"
    degradation: Degradation | None = None
    scored: bool = False


@dataclass(frozen=True)
class Quality:
    """psnr in dB, ssim, against the clean image; picture: uint8 (H, W, 3).

    scores: lpips and the no-reference scores, those that were asked for and can be computed.
    """

    psnr: float
    ssim: float
    picture: np.ndarray
    scores: Mapping[str, float] = field(default_factory=dict)


def columns_of(
    truths: Sequence[Degradation], answers: Mapping[str, Sequence[Degradation | None]]
) -> dict[str, list[Task]]:
    """The columns of Tables 2 and 3: {name: [a Task a sample]}; `answers` are those of `before` and `after`.

    `before`, `after` and `true parameters` are restored with the prior, the classical columns without; `clean` is
    there for the scores of Table 3.
    """
    scored = first_of_each(truths, SCORED)

    def column(method: str, degradations: Sequence[Degradation | None]) -> list[Task]:
        return [
            Task(method if d else "none", d, i in scored) for i, d in enumerate(degradations)
        ]

    columns = {"not restored": column("none", [None] * len(truths)), "blind": column("blind", truths)}
    for name, found in answers.items():
        columns |= {name: column("diffusion", found)}
    return columns | {
        "classical, after": column("classical", answers["after"]),
        "true parameters": column("diffusion", truths),
        "classical, true parameters": column("classical", truths),
        "clean": column("clean", truths),
    }


def first_of_each(truths: Sequence[Degradation], count: int) -> set[int]:
    """Indices of the first `count` samples of each type."""
    seen: dict[str, list[int]] = {}
    for number, truth in enumerate(truths):
        seen.setdefault(truth.type, []).append(number)
    return {number for numbers in seen.values() for number in numbers[:count]}


def restore_here(reward: Reward, samples: Sequence[Sample], tasks: Sequence[Task]) -> list[Quality]:
    """Restores a few samples in this process, a task each."""
    from envs.degradations import physics
    from reward_actors.restoration.running_batch import restore_batch, to_uint8

    pictures = [sample.degraded for sample in samples]
    for i, task in enumerate(tasks):
        if task.method == "classical":
            pictures[i] = to_uint8(physics(task.degradation.type).restore_classically(pictures[i], task.degradation))
        elif task.method == "blind":
            pictures[i] = to_uint8(physics(task.degradation.type).blind(pictures[i]))
        elif task.method == "clean":
            pictures[i] = samples[i].clean
    rows = [i for i, task in enumerate(tasks) if task.method == "diffusion"]
    if rows:
        prior, restorer = _engine(reward.prior, reward.restorer, reward.steps, samples[0].degraded.shape[0])
        restored = restore_batch(
            prior,
            restorer,
            [samples[i].degraded for i in rows],
            [tasks[i].degradation for i in rows],
            [samples[i].sample_id for i in rows],
            reward.batch,
        )
        for i, picture in zip(rows, restored, strict=True):
            pictures[i] = to_uint8(picture)
    weights = scores.lpips_weights(reward)
    return [
        _judge(picture, sample, task.scored, weights)
        for picture, sample, task in zip(pictures, samples, tasks, strict=True)
    ]


def _judge(picture: np.ndarray, sample: Sample, scored: bool, weights: str) -> Quality:
    from reward_actors.scoring.scorer import psnr, ssim

    found = {"lpips": scores.lpips(picture, sample.clean, weights)} if scores.lpips_here(weights) else {}
    for name in scores.no_reference_names() if scored else ():
        found[name] = scores.no_reference_score(name, picture, sample.degraded)
    found = {name: score for name, score in found.items() if np.isfinite(score)}  # PIQE has none for a flat picture
    return Quality(psnr(picture, sample.clean), ssim(picture, sample.clean), picture, found)


@lru_cache(maxsize=2)
def _engine(prior: str, name: str, steps: int, size: int):
    from reward_actors.priors.base import load_prior
    from reward_actors.restoration.presets import restorer

    return load_prior(prior, size), restorer(name, steps)
