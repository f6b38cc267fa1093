"""The world a policy was trained in, kept beside its weights, so that no job reads answers of another taxonomy."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from configs import UserError
from configs.schema import World
from envs.taxonomy import Taxonomy, taxonomy

FILE = "world.json"
SHIPPED = Path(__file__).parent.parent / "learner" / "weights" / "policy"


def policy_folder(policy: str, world: World) -> Path:
    """The folder of a `policy` setting, `shipped` or a path. Raises UserError unless it is a policy of this world."""
    folder = SHIPPED if policy == "shipped" else Path(policy).resolve()
    check_world(folder, world)
    return folder


def world_taxonomy(world: World) -> Taxonomy:
    """The taxonomy that a world's settings describe."""
    return taxonomy(world.camera, world.transmission_grid, world.step_scale, world.composites)


def write_world(folder: Path, world: World) -> None:
    """Writes FOLDER/world.json: the settings and the taxonomy's fingerprint."""
    card = {"taxonomy": world_taxonomy(world).fingerprint(), **asdict(world)}
    (Path(folder) / FILE).write_text(json.dumps(card, indent=1))


def check_world(folder: Path, world: World) -> None:
    """Raises UserError if the policy in `folder` answers in another taxonomy or sees other views or sizes.

    Where haze comes from (`depth`) may differ: it changes pictures, not the language of answers.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"no policy at {folder}: expected a Hugging Face folder with config.json; set policy=FOLDER")
    if not (folder / FILE).is_file():
        raise UserError(f"{folder / FILE} is missing: expected a policy written by `duvlm run sft` or a training job")
    try:
        card = asdict(World()) | json.loads((folder / FILE).read_text())  # it may be older than a setting
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / FILE} is damaged ({error}): expected what a training job wrote") from None
    here = {"taxonomy": world_taxonomy(world).fingerprint(), **asdict(world), "depth": card["depth"]}
    wrong = [f"{key} is {card.get(key)!r} there and {here[key]!r} here" for key in here if card.get(key) != here[key]]
    if wrong:
        raise UserError(
            f"the policy in {folder} was trained in another world: {'; '.join(wrong)}; set world.* to match"
        )
