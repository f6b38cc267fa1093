"""`duvlm run fit-iqa photos=DIR out=DIR`: the model of `niqe_local`, from sharp crops of photographs."""

from __future__ import annotations

import numpy as np

from configs import UserError, run_folder
from configs.schema import Config
from envs.corpus import crop
from envs.photos import Photo, read_photo, scan_photos

BLOCK = 32
CROPS_PER_PHOTO = 40


def run(config: Config) -> None:
    """Fits on crops of the train photos of photos=, size= pixels a side, and writes niqe_local.json.

    Raises:
        UserError: no train photo, or too few sharp blocks.
    """
    from reward_actors.iqa import niqe_local

    size = config.size or config.world.size
    photos = [photo for photo in scan_photos(config.photos, config.seed, size)[0] if photo.split == "train"]
    if not photos:
        raise UserError(f"photos={config.photos}: expected photographs of the train split, found none")
    about = {"photos": sorted({photo.photo_id for photo in photos}), "size": size, "seed": config.seed}
    model = niqe_local.fit(crops(photos, size, config.seed, CROPS_PER_PHOTO), BLOCK, about)
    folder = run_folder(config, "fit-iqa")
    folder.mkdir(parents=True, exist_ok=True)
    niqe_local.save(model, folder / "niqe_local.json")
    print(f"{folder / 'niqe_local.json'}: {model.about['blocks']} sharp blocks of {len(photos)} photographs")


def crops(photos: list[Photo], size: int, seed: int, per_photo: int):
    """Squares of photographs as the corpus cuts them, uint8 (size, size, 3)."""
    for index, photo in enumerate(photos):
        picture, rng = read_photo(photo.path), np.random.default_rng([seed, index])
        for _ in range(per_photo):
            yield crop(picture, size, rng)
