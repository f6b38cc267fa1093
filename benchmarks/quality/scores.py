"""Scores beyond PSNR and SSIM, each only where its package and weights are here: no-reference ones, and LPIPS.

Nothing is downloaded; what is missing is left out of the tables, and the report says so.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from configs import UserError
from configs.schema import Reward

LABELS = {"niqe_local": "NIQE (local)", "niqe": "NIQE", "piqe": "PIQE", "brisque": "BRISQUE", "clipiqa": "CLIP-IQA"}
LOWER = ("lpips", "niqe_local", "spectrum", "contrast", "brisque", "piqe", "niqe")


@lru_cache(maxsize=1)
def no_reference_names() -> tuple[str, ...]:
    """The no-reference scores that can be computed here."""
    from reward_actors.scoring import no_reference
    from reward_actors.scoring.terms import BESIDE_GIVEN

    return (*no_reference.available(), *BESIDE_GIVEN)


def no_reference_score(name: str, picture: np.ndarray, given: np.ndarray) -> float:
    """picture: uint8 (H, W, 3); given: what it was restored from, which some look at too."""
    import torch

    from reward_actors.scoring import no_reference
    from reward_actors.scoring.terms import BESIDE_GIVEN

    if name in BESIDE_GIVEN:
        pair = (torch.tensor(one).permute(2, 0, 1)[None] / 255 for one in (picture, given))
        return float(BESIDE_GIVEN[name](*pair)[0])
    return no_reference.score(name, picture.astype(np.float32) / 255)


def lpips(picture: np.ndarray, clean: np.ndarray, weights: str = "") -> float:
    """LPIPS of two uint8 (H, W, 3) pictures. Raises UserError without pyiqa and the weights."""
    import torch

    from reward_actors.scoring import third_party

    batches = (torch.tensor(x).permute(2, 0, 1)[None].float() / 255 for x in (picture, clean))
    return float(third_party.evaluate("lpips", *batches, weights=weights)[0])


@lru_cache(maxsize=2)
def lpips_here(weights: str = "") -> bool:
    """Whether LPIPS can be computed."""
    grey = np.full((96, 96, 3), 128, np.uint8)
    try:
        lpips(grey, grey, weights)
    except UserError:
        return False
    return True


def lpips_weights(reward: Reward) -> str:
    """The file of an `lpips:WEIGHT@FILE` term of the reward, or empty: pyiqa's usual place."""
    from reward_actors.scoring.scorer import terms

    return next((term.file for term in terms(reward.scorer) if term.name == "lpips"), "")


def label(name: str) -> str:
    """`PIQE ↓`: a score with the arrow of its better direction."""
    return f"{LABELS.get(name, name.upper())} {'↓' if name in LOWER else '↑'}"
