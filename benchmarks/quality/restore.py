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

import cv2
import numpy as np

from configs import UserError, run_folder
from configs.schema import Config
from envs.corpus import encode
from envs.photos import UNREADABLE, read_photo
from envs.policy_world import world_taxonomy
from envs.samples import Sample
from envs.taxonomy import Degradation, Taxonomy

SMALLEST = 16
PIXELS = {"sigma": "px", "scale": "px"}
"""Keys that count pixels: they grow with the resolution of the picture they are read from."""


@dataclass(frozen=True)
class Found:
    """degradation: in pixels of the photo, None without a valid answer; text: the policy's own words."""

    degradation: Degradation | None
    text: str | None = None


def run(config: Config) -> None:
    """Writes OUT/STEM.png, the photo restored, and OUT/STEM.json, what was found.

    Raises:
        UserError: no readable image, or a degradation that the taxonomy does not have.
    """
    if not config.image:
        raise UserError("image: expected the file of a photograph")
    photo = _read(Path(config.image))
    taxonomy = world_taxonomy(config.world)
    ratio = max(1.0, min(photo.shape[:2]) / config.world.size)
    if config.degradation:
        found = Found(given_degradation(json.loads(config.degradation), taxonomy, ratio))
    else:
        found = _ask(config, photo, taxonomy)
    started = time.time()
    restored = restore(config, photo, found.degradation) if found.degradation else photo
    folder, stem = run_folder(config, "restore"), Path(config.image).stem
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.png").write_bytes(encode(restored))
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
    (folder / f"{stem}.json").write_text(json.dumps(card, indent=1) + "\n")
    said = json.dumps(answer) if answer else f"no valid answer ({str(found.text)[:80]!r}), left as it is"
    print(f"{folder / stem}.png: {said}")


def given_degradation(answer: dict, taxonomy: Taxonomy, ratio: float) -> Degradation:
    """A degradation in pixels of the photo; keys that count pixels may be `ratio` times the taxonomy's high.

    Raises:
        UserError: unknown type, wrong keys, a value out of range.
    """
    try:
        values = dict(answer["values"])
        inside = dict(values)
        for name in PIXELS.keys() & values.keys():
            key = taxonomy.keys[name]
            if isinstance(values[name], (int, float)) and key.low <= values[name] <= key.high * ratio:
                inside[name] = min(values[name], key.high)
        checked = taxonomy.degradation(answer["type"], inside)
    except KeyError as missing:
        raise UserError(f'degradation: expected {{"type": ..., "values": {{...}}}}, {missing} is not there') from None
    except (ValueError, TypeError) as error:
        raise UserError(f"degradation: {error}") from None
    exact = {
        name: round(values["scale"]) if name == "scale" else values[name] for name in PIXELS if name in values
    }
    return Degradation(checked.type, tuple((name, exact.get(name, value)) for name, value in checked.values))


def restore(config: Config, photo: np.ndarray, degradation: Degradation) -> np.ndarray:
    """uint8 (H, W, 3) -> the same, restored at its own resolution."""
    import torch

    from benchmarks.quality.tiles import TiledPrior
    from reward_actors.batch import restore_batch, to_uint8
    from reward_actors.priors import load_prior
    from reward_actors.restorers import restorer

    torch.set_num_threads(os.cpu_count() or 1)  # one photo in one process: nobody else computes
    prior = TiledPrior.around(load_prior(config.reward.prior, config.world.size), *photo.shape[:2])
    chosen = restorer(config.reward.restorer, config.reward.steps)
    (restored,) = restore_batch(prior, chosen, [photo], [degradation], [Path(config.image).stem])
    return to_uint8(restored)


def _read(file: Path) -> np.ndarray:
    if not file.is_file():
        raise UserError(f"image={file}: no such file")
    try:
        photo = read_photo(file)
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
    from benchmarks.quality import policies
    from configs.cluster import prepare

    source = policies.find(config.policy, config)
    prepare(config, "restore")
    view, ratio = policy_view(photo, config.world.size)
    sample = Sample(Path(config.image).stem, Path(config.image).stem, "test", view)
    (answered,) = policies.ask(config, source, [sample], taxonomy).values()
    degradation = answered.reading.degradation
    return Found(to_photo(degradation, ratio) if degradation else None, str(answered.given))


def policy_view(photo: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """The central square, uint8 (size, size, 3), and how many photo pixels one of its pixels spans."""
    side = min(photo.shape[:2])
    top, left = ((n - side) // 2 for n in photo.shape[:2])
    square = np.ascontiguousarray(photo[top : top + side, left : left + side])
    if side == size:
        return square, 1.0
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=way), side / size


def to_photo(degradation: Degradation, ratio: float) -> Degradation:
    """The same degradation, its pixels those of the photo; whole where they must be."""

    def scaled(name: str, value):
        if name == "scale":
            return max(2, round(value * ratio))
        return value * ratio if name in PIXELS else value

    return Degradation(
        degradation.type, tuple((name, scaled(name, value)) for name, value in degradation.values)
    )
