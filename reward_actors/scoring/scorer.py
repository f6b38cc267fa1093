"""What a restoration is worth: a weighted sum of terms, each turned so that more is better (docs/scorers.md).

A term is written `NAME`, `NAME:WEIGHT` or `NAME:WEIGHT@FILE` (weights of its own). Its raw value goes into the
parts under its name, whatever its weight and direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from configs import UserError
from envs.taxonomy import Degradation
from envs.types import Sample
from reward_actors.scoring import no_reference, third_party
from reward_actors.scoring.full_reference import consistency, decibel, mse, psnr, ssim, unit
from reward_actors.scoring.terms import (
    AGREEMENT,
    BESIDE_DEGRADED,
    WITH_TRUTH,
    WITHOUT_TRUTH,
    Spec,
    Term,
    fingerprint,
    higher_is_better,
    terms,
)

__all__ = [
    "Term", "check", "consistency", "fingerprint", "higher_is_better", "mse", "prepare", "psnr", "score", "score_batch",
    "ssim", "terms",
]  # fmt: skip


def score(scorer: Spec, restored: np.ndarray, sample: Sample, degradation: Degradation) -> tuple[float, dict]:
    """Computes the reward of one restoration and its parts; see `score_batch`."""
    return score_batch(scorer, [restored], [sample], [degradation])[0]


def score_batch(
    scorer: Spec,
    restored: Sequence[np.ndarray],
    samples: Sequence[Sample],
    degradations: Sequence[Degradation],
    device: torch.device | str = "cpu",
) -> list[tuple[float, dict[str, float]]]:
    """Computes the rewards of restorations. None depends on what else is in the list.

    Args:
        scorer: a term or a list of them; `mse` alone is the reward of Eq. 28, -MSE against the truth.
        restored: float32 (H, W, 3) in [0, 1] each.
        degradations: what was answered.
        device: where learned and statistical scores are computed, many pictures at once on a GPU.

    Returns:
        (reward, parts) of each: parts hold raw values by name, mse and psnr wherever the truth is known.

    Raises:
        UserError: a term needs a truth that a sample lacks, does not exist, or lacks its weights.
        ArithmeticError: a term has no number for a picture (PIQE of a black one).
    """
    for sample in samples:
        check(scorer, sample)
    chosen = [term for term in terms(scorer) if term.name != AGREEMENT]
    parts: list[dict[str, float]] = [_errors(*pair) for pair in zip(restored, samples, strict=True)]
    for term in chosen:
        for values, value in zip(parts, _raw(term, restored, samples, degradations, device), strict=True):
            if not math.isfinite(value):
                raise ArithmeticError(f"{term.name} is {value} for this picture: it has no reward")
            values[term.name] = value
    return [(sum(t.weight * t.sign * values[t.name] for t in chosen), values) for values in parts]


def check(scorer: Spec, sample: Sample) -> None:
    """Raises UserError where `score` would for lack of a truth, before anything is restored."""
    lacking = [term.name for term in terms(scorer) if term.needs_truth] if sample.clean is None else []
    if lacking:
        raise UserError(
            f"reward.scorer={','.join(lacking)} needs the clean picture, {sample.sample_id} has none: use terms"
            f" without a truth, such as {', '.join(WITHOUT_TRUTH)} or niqe_local"
        )


def prepare(scorer: Spec, size: int, device: torch.device | str = "cpu") -> None:
    """Loads what the terms need and tries them on a picture of `size` px, before anything is restored.

    Raises:
        UserError: a term does not exist, lacks its package or weights, or cannot judge pictures of this size.
    """
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    sample = Sample("probe", "", "", picture, picture)
    for term in terms(scorer):
        if term.name not in (*WITHOUT_TRUTH, AGREEMENT):
            _raw(term, [unit(picture)], [sample], [None], device)


def _errors(restored: np.ndarray, sample: Sample) -> dict[str, float]:
    if sample.clean is None:
        return {}
    error = mse(restored, sample.clean)
    return {"mse": error, "psnr": decibel(error)}


def _raw(term: Term, restored, samples, degradations, device) -> list[float]:
    """Computes the raw values of one term."""
    if term.name in WITH_TRUTH:
        return [WITH_TRUTH[term.name](one, sample.clean) for one, sample in zip(restored, samples, strict=True)]
    if term.name in WITHOUT_TRUTH:
        cases = zip(restored, samples, degradations, strict=True)
        return [WITHOUT_TRUTH[term.name](*case) for case in cases]
    values = [0.0] * len(restored)
    for rows in _by_size(restored):
        pictures = _stack([restored[i] for i in rows], device)
        if term.needs_truth:
            truths = _stack([samples[i].clean for i in rows], device)
            scores = third_party.evaluate(term.name, pictures, truths, term.file)
        elif term.name in BESIDE_DEGRADED:
            degraded = _stack([samples[i].degraded for i in rows], device)
            scores = BESIDE_DEGRADED[term.name](pictures, degraded, term.file)
        else:
            scores = no_reference.score_batch(term.name, pictures, term.file)
        for i, value in zip(rows, scores.tolist(), strict=True):
            values[i] = value
    return values


def _by_size(pictures: Sequence[np.ndarray]) -> list[list[int]]:
    sizes: dict[tuple, list[int]] = {}
    for index, picture in enumerate(pictures):
        sizes.setdefault(picture.shape, []).append(index)
    return list(sizes.values())


def _stack(pictures: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    """(B, 3, H, W) on [0, 1]."""
    return torch.from_numpy(np.stack([unit(picture) for picture in pictures])).permute(0, 3, 1, 2).to(device)
