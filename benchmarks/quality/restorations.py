"""PSNR and SSIM of restorations, by type: with answered parameters, with the true ones, and not restored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rich.progress import Progress

from configs.schema import Config, Reward
from envs.corpus import CorpusSplit
from envs.metrics import mean_interval
from envs.samples import Sample
from envs.taxonomy import Degradation

CHUNK = 16


@dataclass(frozen=True)
class Quality:
    """psnr in dB, ssim, against the clean image; picture: uint8 (H, W, 3)."""

    psnr: float
    ssim: float
    picture: np.ndarray


def restore_all(
    config: Config, samples: CorpusSplit, columns: Mapping[str, Sequence[Degradation | None]]
) -> dict[str, list[Quality]]:
    """Restores every sample under each column's degradation (None: left as it is), by Ray tasks.

    Equal (sample, degradation) are restored once. Returns {column: [a Quality a sample]}.
    """
    wanted = list(dict.fromkeys((i, d) for column in columns.values() for i, d in enumerate(column)))
    wanted.sort(key=lambda pair: pair[0])
    found: dict[tuple, Quality] = {}
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("restorations", total=len(wanted))
        for pairs, qualities in _in_parallel(config.reward, samples, wanted):
            found |= zip(pairs, qualities, strict=True)
            progress.advance(task, len(pairs))
    return {name: [found[pair] for pair in enumerate(column)] for name, column in columns.items()}


def restore_here(
    reward: Reward, samples: Sequence[Sample], degradations: Sequence[Degradation | None]
) -> list[Quality]:
    """The same for a few samples, in this process."""
    from reward_actors.batch import restore_batch, to_uint8
    from reward_actors.scorers import psnr, ssim

    pictures = [sample.degraded for sample in samples]
    rows = [i for i, degradation in enumerate(degradations) if degradation is not None]
    if rows:
        size = samples[0].degraded.shape[0]
        prior, restorer = _engine(reward.prior, reward.restorer, reward.steps, reward.eta, size)
        restored = restore_batch(
            prior,
            restorer,
            [samples[i].degraded for i in rows],
            [degradations[i] for i in rows],
            [samples[i].sample_id for i in rows],
            reward.batch,
        )
        for i, picture in zip(rows, restored, strict=True):
            pictures[i] = to_uint8(picture)
    pairs = zip(pictures, samples, strict=True)
    return [Quality(psnr(p, sample.clean), ssim(p, sample.clean), p) for p, sample in pairs]


def table(qualities: Mapping[str, Sequence[Quality]], truths: Sequence[Degradation]) -> dict:
    """{type, or "all": {column: {"psnr", "psnr_interval", "ssim", "ssim_interval"}}}."""
    kinds = list(dict.fromkeys(truth.type for truth in truths))
    rows = {kind: [i for i, truth in enumerate(truths) if truth.type == kind] for kind in sorted(kinds)}
    rows["all"] = list(range(len(truths)))
    return {kind: {name: _mean([column[i] for i in chosen]) for name, column in qualities.items()}
            for kind, chosen in rows.items()}  # fmt: skip


def gain(after: Sequence[Quality], before: Sequence[Quality]) -> tuple[float, float, float]:
    """(mean PSNR gained, low, high), paired by sample."""
    return mean_interval([a.psnr - b.psnr for a, b in zip(after, before, strict=True)])


def _mean(qualities: Sequence[Quality]) -> dict:
    result = {}
    for name in ("psnr", "ssim"):
        mean, low, high = mean_interval([getattr(quality, name) for quality in qualities])
        result |= {name: mean, f"{name}_interval": [low, high]}
    return result


def _in_parallel(reward: Reward, samples: CorpusSplit, wanted: Sequence[tuple]) -> Iterator[tuple]:
    import ray

    @ray.remote(num_cpus=1)
    def restore(chosen: list[Sample], degradations: list[Degradation | None]) -> list[Quality]:
        import torch

        torch.set_num_threads(1)
        return restore_here(reward, chosen, degradations)

    waiting, chunks = {}, [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    while waiting or chunks:
        while chunks and len(waiting) < limit:
            pairs = chunks.pop()
            reference = restore.remote([samples[i] for i, _ in pairs], [d for _, d in pairs])
            waiting[reference] = pairs
        (done, *_), _ = ray.wait(list(waiting))
        yield waiting.pop(done), ray.get(done)


@lru_cache(maxsize=2)
def _engine(prior: str, name: str, steps: int, eta: float, size: int):
    from reward_actors.priors import load_prior
    from reward_actors.restorers import restorer

    return load_prior(prior, size), restorer(name, steps, eta)
