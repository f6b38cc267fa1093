"""New pictures of old scenes: what SFT sees in place of a corpus sample, so that no two epochs look the same."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from envs.corpus.generate import EVEN_SHARE, degrade
from envs.degradations import depth
from envs.nuisances import Nuisances
from envs.taxonomy import Taxonomy
from envs.types import Sample

AS_IT_IS, CAMERA_SHARE, LIFTED = 0.25, 0.5, 0.4
"""In the open world: how often a scene keeps its exposure, how often another camera sharpens or reduces it, how often
a varied one has a little haze, below that of any degraded picture."""


def mirrors(taxonomy: Taxonomy) -> bool:
    """Tells whether mirroring keeps every value true: no key is laid out over the picture."""
    return not any(key.over_picture for key in taxonomy.keys.values())


def augmented(sample: Sample, seed: int, epoch: int, index: int) -> Sample:
    """Mirrors a sample left to right in half of the cases, chosen by (seed, epoch, index).

    Mirroring commutes with every degradation whose values hold for the whole picture: the truth stays true.
    """
    if np.random.default_rng([seed, epoch, index]).random() < 0.5:
        return sample
    pictures = {"degraded": sample.degraded, "clean": sample.clean, "transmission": sample.transmission}
    mirrored = {name: None if each is None else np.ascontiguousarray(each[:, ::-1]) for name, each in pictures.items()}
    return replace(sample, **mirrored)


def refreshed(
    sample: Sample,
    taxonomy: Taxonomy,
    seed: int,
    epoch: int,
    index: int,
    draws_depth: bool = False,
    draws_nuisances: bool = False,
) -> Sample:
    """Makes a new sample of the same type: the clean image varied and maybe mirrored, degraded by values drawn anew.

    No two epochs show the same picture, so the policy cannot learn values by heart, nor how bright a photograph is.

    Args:
        sample: a sample with its clean image and its truth.
        taxonomy: the grid that new values lie on.
        seed, epoch, index: decide everything that is drawn.
        draws_depth: haze follows a depth drawn anew; else it is even. Where the sample has its map of transmission,
            it follows the depth that made the map: what was measured stays.
        draws_nuisances: noise, JPEG and exposure that no answer names are drawn too.
    """
    rng = np.random.default_rng([seed, epoch, index, 1])
    shown = augmented(sample, seed, epoch, index)
    clean, exposed = shown.clean, any(part.alters_exposure for part in sample.degradation.phenomena)
    if draws_nuisances and rng.random() < CAMERA_SHARE:
        clean = by_another_camera(clean, rng)
    if not exposed and not (draws_nuisances and rng.random() < AS_IT_IS):
        clean = varied(clean, rng, dithered=draws_nuisances)
    relative = None
    if sample.degradation.follows_depth and shown.transmission is not None:
        relative = depth.from_transmission(shown.transmission)
    elif sample.degradation.follows_depth and draws_depth and not (taxonomy.is_open and rng.random() < EVEN_SHARE):
        relative = depth.procedural(rng, *clean.shape[:2])
    degradation, transmission = depth.sample(taxonomy, sample.degradation.type, rng, clean.shape[0], relative)
    nuisances = Nuisances.draw(rng, degradation) if draws_nuisances else None
    if nuisances:
        nuisances = replace(nuisances, exposure=1.0, white_balance=(1.0, 1.0, 1.0))  # `varied` does more
    degraded = degrade(clean, degradation, transmission, nuisances)
    return replace(sample, clean=clean, degraded=degraded, degradation=degradation, transmission=transmission)


def varied(image: np.ndarray, rng: np.random.Generator, dithered: bool = False) -> np.ndarray:
    """Takes the same scene at another exposure: another tone curve, other channel gains, another saturation.

    Args:
        image: uint8 (H, W, 3); so is what is returned.
        rng: source of all draws.
        dithered: round at random, so that a steeper curve leaves no gaps between levels, as no camera does.
    """
    steepest, darkest = (1.2, 0.88) if dithered else (1.35, 0.8)  # darker ones are called low light
    unit = (image.astype(np.float32) / 255) ** rng.uniform(0.75, steepest)
    unit = unit * (rng.uniform(darkest, 1.1) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    if dithered and rng.random() < LIFTED:
        lift = rng.uniform(0, 0.1)
        unit = lift * rng.uniform(0.6, 1) + (1 - lift) * unit
    grey = cv2.cvtColor(np.clip(unit, 0, 1), cv2.COLOR_RGB2GRAY)[..., None]
    levels = np.clip(grey + rng.uniform(0.7, 1.3) * (unit - grey), 0, 1) * 255
    if dithered:
        levels = (levels + rng.random(levels.shape, np.float32) - 0.5).clip(0, 255)
    return levels.round().astype(np.uint8)


def by_another_camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sharpens a picture, uint8 (H, W, 3), a little, or reduces it a little and enlarges it again."""
    if rng.random() < 0.6:
        radius, amount = rng.uniform(0.5, 1.2), rng.uniform(0, 0.8)
        return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), radius), -amount, 0)
    height, width = image.shape[:2]
    share = rng.uniform(0.75, 0.98)
    ways = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    small = cv2.resize(image, (round(width * share), round(height * share)), interpolation=ways[rng.integers(4)])
    return cv2.resize(small, (width, height), interpolation=ways[1 + rng.integers(3)])
