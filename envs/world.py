"""Keeps the world a policy was trained in beside its weights, so that no job reads answers of another taxonomy."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

from configs import UserError
from configs.files import read_json
from configs.hub import model_folder
from configs.models import check_model
from configs.schema import Config, World
from envs.language import evidence
from envs.language.answer import SEVERITY_WORDS
from envs.observation import QUESTION
from envs.taxonomy import world_taxonomy

FILE, CHAT = "world.json", "chat_template.jinja"
WEIGHTS = Path(__file__).parent.parent / "learner" / "weights"
SHIPPED, SHIPPED_OPEN = WEIGHTS / "policy", WEIGHTS / "policy_open"
"""The policies of the paper's world and of the open one."""


def policy_folder(policy: str, world: World) -> Path:
    """Finds the folder of a policy, `shipped` or a path. Raises UserError unless it is a whole policy of this world."""
    folder = shipped_policy(world) if policy == "shipped" else model_folder(policy, "policy").resolve()
    check_policy(folder, world)
    return folder


def check_policy(folder: Path, world: World) -> None:
    """Checks that a policy is whole, hashes and all, and of this world. Raises UserError where it is not."""
    if (Path(folder) / FILE).is_file():
        check_model(folder, "policy")
    check_world(folder, world)


def shipped_policy(world: World) -> Path:
    """Finds the policy that is shipped for a world."""
    return SHIPPED_OPEN if world_taxonomy(world).is_open else SHIPPED


def in_own_world(config: Config, policy: str | Path) -> Config:
    """Returns the settings in the world that the policy in a folder was trained in, for jobs that only ask it; those of
    `shipped`, or of somebody else's model, are as they were."""
    folder = model_folder(str(policy), "policy")
    return replace(config, world=world_of(folder)) if (folder / FILE).is_file() else config


def is_foreign(folder: Path) -> bool:
    """Tells whether this is a Hugging Face model that no job of ours has written."""
    return (folder / "config.json").is_file() and not (folder / FILE).is_file()


def template_hash(folder: Path, world: World) -> str:
    """Hashes everything a prompt and its answer are worded by: the folder's chat template, the question, the views,
    the words of the rationale and the taxonomy."""
    chat = Path(folder) / CHAT
    words = [chat.read_text() if chat.is_file() else "", QUESTION, world.views, world.rationale and SEVERITY_WORDS]
    words += [world.severity] if world.severity != World().severity else []
    words += [evidence.FINDINGS, evidence.LIMITS] if world.rationale_style == "evidence" else []
    text = json.dumps([*words, world_taxonomy(world).fingerprint()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_world(folder: Path, world: World) -> None:
    """Writes FOLDER/world.json: the settings, the taxonomy's fingerprint and the template's hash. The folder has its
    processor already."""
    card = {"taxonomy": world_taxonomy(world).fingerprint(), "template": template_hash(folder, world), **asdict(world)}
    (Path(folder) / FILE).write_text(json.dumps(card, indent=1))


def world_of(folder: Path) -> World:
    """Reads the world that the policy in `folder` was trained in. Raises UserError where it does not say."""
    card = _card(folder)
    return World(**{name: card[name] for name in asdict(World())})


def check_world(folder: Path, world: World) -> None:
    """Checks a policy. Raises UserError if the one in `folder` answers in another taxonomy, sees other views or sizes,
    or was asked in other words when it was trained.

    Where haze comes from (`depth`) and whether there are `nuisances` may differ: they change pictures, not the language
    of answers.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"no policy at {folder}: expected a Hugging Face folder with config.json; set policy=FOLDER")
    card = _card(folder)
    here = {"taxonomy": world_taxonomy(world).fingerprint(), **asdict(world)}
    here |= {name: card[name] for name in ("depth", "nuisances")}
    wrong = [f"{key} is {card.get(key)!r} there and {here[key]!r} here" for key in here if card.get(key) != here[key]]
    if wrong:
        raise UserError(
            f"the policy in {folder} was trained in another world: {'; '.join(wrong)}; set world.* to match"
        )
    if card.get("template", expected := template_hash(folder, world)) != expected:
        raise UserError(
            f"the policy in {folder} was trained with another prompt template (hash {card['template']} there, "
            f"{expected} here): put the {CHAT} of its training back, use the version of the project it was trained "
            "with, or train it anew"
        )


def _card(folder: Path) -> dict:
    card = read_json(Path(folder) / FILE, ("taxonomy",), "expected what a training job wrote")
    return asdict(World()) | card  # it may be older than a setting
