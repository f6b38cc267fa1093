"""What a picture is worth: PSNR and SSIM, LPIPS and no-reference scores where their packages and weights are here.

Nothing is downloaded; what is missing is left out of the tables, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from configs import UserError
from configs.schema import Reward
from envs.types import Sample

LABELS = {"niqe_local": "NIQE (local)", "niqe": "NIQE", "piqe": "PIQE", "brisque": "BRISQUE", "clipiqa": "CLIP-IQA"}
LOWER = ("lpips", "niqe_local", "spectrum", "contrast", "brisque", "piqe", "niqe")


@dataclass(frozen=True)
class Quality:
    """Holds the measures of one picture against its clean one.

    psnr in dB, ssim in 0 .. 1; None where there is no clean picture. scores: lpips and the no-reference scores, those
    that were asked for and exist.
    picture: uint8 (H, W, 3), where it was asked for.
    """

    psnr: float | None
    ssim: float | None
    scores: Mapping[str, float] = field(default_factory=dict)
    picture: np.ndarray | None = None


def judge(
    picture: np.ndarray, sample: Sample, scored: bool, weights: Mapping[str, str] = MappingProxyType({}), device="cpu"
) -> Quality:
    """Measures a picture, uint8 (H, W, 3), made from `sample`.

    Args:
        scored: whether it gets no-reference scores, which cost more than restoring.
        weights: {score: a file instead of its usual one, or empty}; no-reference scores of pyiqa named here are added.
    """
    from reward_actors.scoring.scorer import psnr, ssim

    scores = {}
    if sample.clean is not None and lpips_here(weights.get("lpips", "")):
        scores["lpips"] = lpips(picture, sample.clean, weights.get("lpips", ""), device)
    for name in dict.fromkeys((*no_reference_names(), *weights)) if scored else ():
        if name != "lpips":
            scores[name] = no_reference_score(name, picture, sample.degraded, weights.get(name, ""), device)
    scores = {name: score for name, score in scores.items() if np.isfinite(score)}  # PIQE has none for a flat picture
    if sample.clean is None:
        return Quality(None, None, scores)
    return Quality(psnr(picture, sample.clean), ssim(picture, sample.clean), scores)


@lru_cache(maxsize=1)
def no_reference_names() -> tuple[str, ...]:
    """Lists the no-reference scores that can be computed here."""
    from reward_actors.scoring import no_reference
    from reward_actors.scoring.terms import BESIDE_DEGRADED

    return (*no_reference.available(), *BESIDE_DEGRADED)


def no_reference_score(name: str, picture: np.ndarray, given: np.ndarray, weights: str = "", device="cpu") -> float:
    """Scores a picture, uint8 (H, W, 3). given: what it was restored from, which some scores look at too."""
    from reward_actors.scoring import no_reference
    from reward_actors.scoring.terms import BESIDE_DEGRADED

    if name in BESIDE_DEGRADED:
        return float(BESIDE_DEGRADED[name](_batch(picture, device), _batch(given, device), weights)[0])
    return float(no_reference.score_batch(name, _batch(picture, device), weights)[0])


def lpips(picture: np.ndarray, clean: np.ndarray, weights: str = "", device: str = "cpu") -> float:
    """Computes LPIPS of two uint8 (H, W, 3) pictures. Raises UserError without pyiqa and the weights."""
    from reward_actors.scoring import third_party

    return float(third_party.evaluate("lpips", _batch(picture, device), _batch(clean, device), weights)[0])


@lru_cache(maxsize=2)
def lpips_here(weights: str = "") -> bool:
    """Tells whether LPIPS can be computed."""
    grey = np.full((96, 96, 3), 128, np.uint8)
    try:
        lpips(grey, grey, weights)
    except UserError:
        return False
    return True


def named_weights(reward: Reward) -> dict[str, str]:
    """Returns {score: file} of the reward's `lpips:WEIGHT@FILE` and of its no-reference terms of pyiqa."""
    from reward_actors.scoring import no_reference, terms

    ours = (*terms.WITH_TRUTH, *terms.WITHOUT_TRUTH, *terms.BESIDE_DEGRADED, terms.AGREEMENT, *no_reference.OURS)
    named = [term for term in terms.terms(reward.scorer) if term.name not in ours]
    return {term.name: term.file for term in named if term.name == "lpips" or not term.needs_truth}


def label(name: str) -> str:
    """Writes `PIQE ↓`: a score with the arrow of its better direction."""
    return f"{LABELS.get(name, name.upper())} {'↓' if name in LOWER else '↑'}"


def _batch(picture: np.ndarray, device: str):
    """float32 (1, 3, H, W) in [0, 1]."""
    import torch

    return torch.tensor(picture.astype(np.float32) / 255, device=device).permute(2, 0, 1)[None]
