"""Degrades a photograph by given parameters: `duvlm run degrade`, the forward direction of every reading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from configs import UserError, load, run_folder
from configs.schema import Config
from envs.corpus.generate import degrade as degraded
from envs.pictures import SUFFIXES, as_picture
from envs.taxonomy import Degradation, world_taxonomy
from service.pictures import photo_of
from service.pixels import given_degradation


def degrade(image, degradation: Degradation | dict, config: Config | None = None) -> np.ndarray:
    """Makes the picture that a degradation would have left of a clean one.

    Args:
        image: a path, the bytes of a file, a PIL image, or uint8 RGB (H, W, 3).
        degradation: in pixels of the photograph, for example {"type": "blur", "values": {"sigma": 2.0}}.

    Returns:
        uint8 RGB (H, W, 3), of the same size.

    Raises:
        UserError: the picture cannot be read, or the degradation is not of the taxonomy.
    """
    config, picture = config or load("restore"), as_picture(image)
    if isinstance(degradation, dict):
        ratio = max(1.0, min(picture.shape[:2]) / config.world.size)
        degradation = given_degradation(degradation, world_taxonomy(config.world), ratio)
    return degraded(picture, degradation)


def run(config: Config) -> None:
    """Runs the job: writes OUT/STEM.png, the degraded picture, and OUT/STEM.json, what was done to it.

    Raises:
        UserError: no readable image, no degradation, or a result that would overwrite the image.
    """
    file = Path(config.image)
    if not config.image or not file.is_file():
        raise UserError(f"image={config.image}: expected the file of a photograph ({' '.join(SUFFIXES)})")
    if not config.degradation:
        example = '{"type": "blur", "values": {"sigma": 2.0}}'
        raise UserError(f"degradation: expected what is to be done to the photograph, as in {example}")
    result = run_folder(config, "degrade") / f"{file.stem}.png"
    if result.exists() and result.samefile(file):
        raise UserError(f"out={result.parent}: {result} would take the place of the photograph itself; choose another")
    photo = photo_of(file)
    ratio = max(1.0, min(photo.size) / config.world.size)
    wanted = given_degradation(json.loads(config.degradation), world_taxonomy(config.world), ratio)
    made = degrade(photo.picture, wanted, config)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_bytes(photo.png(made))
    card = {"image": str(file), "size": list(photo.size), "degradation": wanted.as_dict()}
    result.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{result}: {json.dumps(card['degradation'])}")
