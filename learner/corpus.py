"""The corpus that a training job learns from: the one it names, or one that it builds in its run folder."""

from __future__ import annotations

import copy
from pathlib import Path

from configs import UserError
from configs.run_folders import locked
from configs.schema import Config
from envs.corpus import build
from envs.corpus.reader import check_corpus, check_size, read_card


def training_corpus(config: Config, out: Path, of_this_seed: bool = False) -> Path:
    """Returns the folder of config.corpus, or of one built from config.photos in OUT/corpus; one that is there already
    and is of the same photographs and settings is used as it is.

    Args:
        of_this_seed: one that was built with another seed is not taken for it where a run is continued.

    Raises:
        UserError: the pictures are not of world.size; or a run is to be continued, and OUT/corpus is of other
            photographs or settings.
    """
    if config.corpus:
        folder = Path(config.corpus).resolve()
        check_size(folder, config.world)
        check_corpus(folder)
        return folder
    if config.size not in (0, config.world.size):
        raise UserError(
            f"size={config.size}: a training job builds its corpus of world.size={config.world.size} px; leave size= "
            "out, or set world.size"
        )
    folder = (out / "corpus").resolve()
    settings = copy.copy(config)
    settings.out = str(folder)
    with locked(out):
        if config.resume and (folder / "corpus.json").is_file():
            _check_same(folder, settings, of_this_seed)
            check_corpus(folder)
        else:
            build.run(settings)
    return folder


def _check_same(folder: Path, settings: Config, of_this_seed: bool) -> None:
    card = read_card(folder)
    if not of_this_seed:
        settings.seed = card["seed"]
    if card["recipe"] != build.plan(settings)[0].fingerprint():
        raise UserError(
            f"{folder} is not the corpus of these photographs and settings (photos, count, seed, reviews, world.*): "
            f"set them back, go on with it by corpus={folder}, or start anew with resume=false"
        )
