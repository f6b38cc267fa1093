"""`duvlm run restore`: one photograph, restored under given parameters or those the policy reads off it.

The operator acts on the whole photo at its own resolution; the prior, made for small pictures, sees it in
overlapping tiles. The policy sees the central square at its working resolution, and what it answers in pixels
is scaled to the photo's.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality.checks import check_prior
from configs import UserError, run_folder
from configs.schema import Config
from envs.corpus.generate import encode
from envs.pictures import UNREADABLE, read_picture
from envs.taxonomy import Degradation, Taxonomy
from envs.types import Sample
from envs.world import world_taxonomy
from service.pixels import given_degradation, policy_view, to_photo

SMALLEST = 16


@dataclass(frozen=True)
class Found:
    """degradation: in pixels of the photo, None without a valid answer; text: the policy's own words."""

    degradation: Degradation | None
    text: str | None = None


def run(config: Config) -> None:
    """Writes OUT/STEM.png, the photo restored, and OUT/STEM.json, what was found.

    Raises:
        UserError: no readable image, or one that would be overwritten; no prior; or a degradation that the taxonomy
            does not have.
    """
    if not config.image:
        raise UserError("image: expected the file of a photograph")
    photo, result = _read(Path(config.image)), run_folder(config, "restore") / f"{Path(config.image).stem}.png"
    if result.exists() and result.samefile(config.image):
        raise UserError(f"out={result.parent}: {result} would take the place of the photograph itself; choose another")
    check_prior(config.reward.prior)
    taxonomy = world_taxonomy(config.world)
    ratio = max(1.0, min(photo.shape[:2]) / config.world.size)
    if config.degradation:
        found = Found(given_degradation(json.loads(config.degradation), taxonomy, ratio))
    else:
        found = _ask(config, photo, taxonomy)
    started = time.time()
    restored = restore(config, photo, found.degradation) if found.degradation else photo
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_bytes(encode(restored))
    answer = found.degradation.as_dict() if found.degradation else None
    card = {
        "image": config.image,
        "size": [photo.shape[1], photo.shape[0]],
        "degradation": answer,
        "source": "given" if config.degradation else "policy",
        "text": found.text,
        "restorer": config.reward.restorer,
        "prior": config.reward.prior,
        "seconds": round(time.time() - started, 2),
    }
    result.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    said = json.dumps(answer) if answer else f"no valid answer ({str(found.text)[:80]!r}), left as it is"
    print(f"{result}: {said}")


def restore(config: Config, photo: np.ndarray, degradation: Degradation) -> np.ndarray:
    """uint8 (H, W, 3) -> the same, restored at its own resolution."""
    import torch

    from reward_actors.priors.base import load_prior
    from reward_actors.restoration.presets import restorer
    from reward_actors.restoration.running_batch import restore_batch, to_uint8
    from service.tiles import TiledPrior

    torch.set_num_threads(os.cpu_count() or 1)  # one photo in one process: nobody else computes
    prior = TiledPrior.around(load_prior(config.reward.prior, config.world.size), *photo.shape[:2])
    chosen = restorer(config.reward.restorer, config.reward.steps)
    (restored,) = restore_batch(prior, chosen, [photo], [degradation], [Path(config.image).stem])
    return to_uint8(restored)


def _read(file: Path) -> np.ndarray:
    if not file.is_file():
        raise UserError(f"image={file}: no such file")
    try:
        photo = read_picture(file)
    except UNREADABLE as error:
        raise UserError(
            f"image={file}: expected a photograph (JPEG, PNG, WebP, BMP): {str(error)[:120]}"
        ) from None
    if min(photo.shape[:2]) < SMALLEST:
        raise UserError(
            f"image={file}: expected at least {SMALLEST} px a side, got {photo.shape[1]} x {photo.shape[0]}"
        )
    return photo


def _ask(config: Config, photo: np.ndarray, taxonomy: Taxonomy) -> Found:
    from benchmarks.quality.sources import policy as policies
    from configs.cluster.connect import prepare

    source = policies.find(config.policy, config)
    prepare(config, "restore")
    view, ratio = policy_view(photo, config.world.size)
    sample = Sample(Path(config.image).stem, Path(config.image).stem, "test", view)
    (answered,) = policies.ask(config, source, [sample], taxonomy).values()
    degradation = answered.reading.degradation
    return Found(to_photo(degradation, ratio) if degradation else None, str(answered.given))
