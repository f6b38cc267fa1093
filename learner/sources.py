"""What a training job begins with: the corpus it learns from and, for SFT, the first policy."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

from configs import UserError
from configs.run_folders import locked
from configs.schema import Config
from envs.corpus import build
from envs.corpus.reader import check_size, read_card
from envs.world import is_foreign, policy_folder, world_taxonomy

SOURCE = "source.json"
"""In OUT/initial: the model that was adopted."""


def training_corpus(config: Config, out: Path, of_this_seed: bool = False) -> Path:
    """config.corpus, or one built from config.photos in OUT/corpus; one that is there already and is of the same
    photographs and settings is used as it is.

    Args:
        of_this_seed: one that was built with another seed is not taken for it where a run is continued.

    Raises:
        UserError: the pictures are not of world.size; or a run is to be continued, and OUT/corpus is of other
            photographs or settings.
    """
    if config.corpus:
        folder = Path(config.corpus).resolve()
        check_size(folder, config.world)
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


def initial_policy(config: Config, out: Path) -> Path:
    """The policy that SFT begins with: config.policy, or in OUT/initial one with random weights or somebody else's
    model with our answer tokens.

    Raises:
        UserError: config.policy is no model or of another world; or a run is to be continued that began with another.
    """
    folder = (out / "initial").resolve()
    if config.policy == "random":
        from learner.policy.tiny import build_tiny_policy

        shutil.rmtree(folder, ignore_errors=True)
        return build_tiny_policy(folder, world_taxonomy(config.world), config.world.size, config.seed)
    if is_foreign(Path(config.policy)):
        return _adopted(Path(config.policy).resolve(), folder, config)
    return policy_folder(config.policy, config.world)


def _adopted(model: Path, folder: Path, config: Config) -> Path:
    """The model, adopted in `folder` once: what continues a run starts from the same."""
    record = folder / SOURCE
    if config.resume and record.is_file():
        if (there := json.loads(record.read_text())["policy"]) != str(model):
            raise UserError(
                f"policy={model}, but the run in {folder.parent} began with {there}: set it back, write elsewhere with "
                "name= or out=, or start anew with resume=false"
            )
        return policy_folder(str(folder), config.world)
    from learner.policy.initial import adopt

    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    adopt(model, aside, config.world)
    (aside / SOURCE).write_text(json.dumps({"policy": str(model)}))
    shutil.rmtree(folder, ignore_errors=True)
    return aside.rename(folder)
