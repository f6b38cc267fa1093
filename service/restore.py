"""Restores photographs of any size: `duvlm run restore image=FILE|FOLDER`, and the function behind it.

Operator and prior see the photograph at its own resolution, in overlapping tiles where it is larger than one; above
`pieces.LARGE` pixels with one call of the prior each. The policy sees a large photograph reduced and in pieces at its
own scale (`service.reading`); its answer is in pixels of the photograph. A photograph whose answer is invalid, `none`,
or too uncertain is left as it came.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.quality.checks import check_prior
from configs import UserError, load, run_folder
from configs.schema import Config
from envs.degradations import physics, with_coding
from envs.pictures import SUFFIXES, UNREADABLE
from envs.taxonomy import Degradation, world_taxonomy
from envs.world import in_own_world
from service.decision import decide_for, forced
from service.pictures import Photo, content_name, decoded, photo_of
from service.pixels import given_degradation, gray_as
from service.reader import Reader, Reading

SMALLEST = 16


@dataclass(frozen=True)
class Restored:
    """Holds a photograph after `restore`.

    picture: uint8 RGB (H, W, 3). action: `restored` or `left`. reason: why it was left: `invalid` where the answer
    could not be read, `none` where nothing is wrong, `uncertain` where restoring may do harm (`service.decision`);
    empty where it was restored. restorer: by what it was restored, another than was asked for where that would call the
    prior too often for so large a photograph.
    """

    picture: np.ndarray
    action: str
    reason: str = ""
    restorer: str = ""


def restore(
    image,
    reading: Reading | Degradation | dict | None = None,
    restorer: str = "twice",
    prior: str = "shipped",
    steps: int = 0,
    config: Config | None = None,
    force: bool = False,
) -> Restored:
    """Restores one photograph in this process.

    Args:
        image: a path, the bytes of a file, a PIL image, uint8 RGB (H, W, 3), or what `photo_of` made of one of them.
        reading: what a `Reader` read off it; or a degradation, in pixels of the photograph, as
            {"type": "blur", "values": {"sigma": 2.0}} has it. By default the shipped policy is asked.
        force: what was read is restored, however uncertain; what was given always is.
        restorer, prior, steps: see `reward.restorer`, `reward.prior`, `reward.steps`.

    Returns:
        The restored photograph, of its own size; a gray one stays gray. Equal pictures and degradations give equal
        pixels, whatever the file is called.

    Raises:
        UserError: the picture cannot be read, there is no such prior, or the degradation is not of the taxonomy.
    """
    import torch

    from reward_actors.restoration.frame import completed
    from reward_actors.restoration.pieces import noise_of, restore_in_tiles, restorer_for
    from reward_actors.restoration.running_batch import to_uint8

    config, given = config or load("restore"), photo_of(image)
    photo, coding = given.picture, given.coding
    reading = Reader(config=config)(photo) if reading is None else reading
    if isinstance(reading, dict):
        ratio = max(1.0, min(photo.shape[:2]) / config.world.size)
        reading = given_degradation(reading, world_taxonomy(config.world), ratio)
    if isinstance(reading, Degradation):
        reading = Reading(reading, "")
    settings = forced(config.restore) if force else config.restore
    action, reason = decide_for(photo, reading, settings, config.world.size)
    if action == "left":
        return Restored(photo, action, reason)
    check_prior(prior)
    cores = os.cpu_count() or 1  # one photograph in one process: nobody else computes
    torch.set_num_threads(cores)
    pixels, name, network = photo.shape[0] * photo.shape[1], content_name(photo), _prior(prior, config.world.size)
    chosen = restorer_for(restorer, steps, pixels)
    noise = noise_of(photo, reading.degradation, config.reward.noise == "estimated", coding)
    degradation = with_coding(reading.degradation, coding)
    whole, window = completed(photo, degradation)
    shown = partial(track, description="tiles", disable=not sys.stdout.isatty(), transient=True)
    result = restore_in_tiles(network, chosen, whole, degradation, name, noise, shown, cores)
    return Restored(gray_as(photo, to_uint8(result[window])), action, restorer=chosen.name)


def run(config: Config) -> None:
    """Runs the job: writes OUT/STEM.png and OUT/STEM.json for each photograph of `image`.

    Raises:
        UserError: no readable image, a result that would overwrite one, no prior, or a degradation that is not of the
            taxonomy; of a folder, after all others are done, the photographs that could not be read.
    """
    config, out = in_own_world(config, config.policy), run_folder(config, "restore")
    files = list(_results(config.image, out))
    check_prior(config.reward.prior)
    if config.degradation and len(files) == 1:
        _restored_one(config, None, *files[0])
        return
    reader = None if config.degradation else Reader(config.policy, config)
    failed = []
    for file, result in track(files, "photographs", disable=len(files) == 1 or not sys.stdout.isatty()):
        try:
            _restored_one(config, reader, file, result)
        except UserError as error:
            if len(files) == 1:
                raise
            failed.append(file)
            print(f"duvlm: {error}", file=sys.stderr)
    if failed:
        raise SystemExit(1)


def _results(image: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """(photograph, OUT/STEM.png) of a file or of all in a folder; OUT/STEM.EXT.png where two have one stem."""
    if not image:
        raise UserError("image: expected the file of a photograph, or a folder of them")
    place = Path(image)
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise UserError(f"image={place}: expected photographs ({' '.join(SUFFIXES)}) in this folder, found none")
    elif place.is_file():
        files = [place]
    else:
        raise UserError(f"image={place}: no such file or folder")
    stems = [file.stem for file in files]
    for file in files:
        result = out / f"{file.stem if stems.count(file.stem) == 1 else file.name}.png"
        if result.exists() and any(result.samefile(one) for one in files):
            raise UserError(f"out={out}: {result} would take the place of the photograph itself; choose another")
        yield file, result


def _restored_one(config: Config, reader: Reader | None, file: Path, result: Path) -> None:
    """Restores one file and writes its picture and its card."""
    started, photo = time.time(), _read(file)
    if reader:
        reading = reader(photo.picture)
    else:
        ratio = max(1.0, min(photo.size) / config.world.size)
        given = given_degradation(json.loads(config.degradation), world_taxonomy(config.world), ratio)
        reading = Reading(given, "")
        if not physics(given.type).fits(photo.picture, given):
            print(f"duvlm: {file}: {given.type} does not fit this photograph, restored all the same", file=sys.stderr)
    reward = config.reward
    restored = restore(photo, reading, reward.restorer, reward.prior, reward.steps, config, config.force)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_bytes(photo.png(restored.picture))
    answer = reading.degradation.as_dict() if reading.degradation else None
    card = {
        "image": str(file),
        "size": list(photo.size),
        "degradation": answer,
        "action": restored.action,
        "reason": restored.reason,
        "intervals": reading.intervals and {key: list(ends) for key, ends in reading.intervals.items()},
        "confidence": round(reading.confidence, 4) if reader else None,
        "source": "policy" if reader else "given",
        "text": reading.text if reader else None,
        "restorer": restored.restorer or config.reward.restorer,
        "prior": config.reward.prior,
        "seconds": round(time.time() - started, 2),
    }
    result.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    rationale = reading.text.partition("[")[0].strip()
    words = json.dumps(answer) if answer else f"no valid answer ({reading.text[:80]!r})"
    left = f", left as it is ({restored.reason})" if restored.action == "left" else ""
    print(f"{result}: {f'{rationale} ' if answer and rationale else ''}{words}{left}")


def _read(file: Path) -> Photo:
    try:
        photo = decoded(file.read_bytes())
    except UNREADABLE as error:
        raise UserError(f"image={file}: expected a photograph ({' '.join(SUFFIXES)}): {str(error)[:120]}") from None
    if min(photo.size) < SMALLEST:
        size = " x ".join(map(str, photo.size))
        raise UserError(f"image={file}: expected at least {SMALLEST} px a side, got {size}")
    return photo


@lru_cache(maxsize=2)
def _prior(spec: str, size: int):
    """Opens a prior once for all photographs of a process."""
    from reward_actors.priors.load import load_prior

    return load_prior(spec, size)
