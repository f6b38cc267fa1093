"""`python -m learner.policy.ship FOLDER`: makes a trained policy the shipped one of its world, in half precision."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from configs import UserError, manifest
from configs.hub.cards import make_card
from envs.world import check_policy, shipped_policy, world_of, write_world
from learner.policy.model import load_policy

LARGEST = 12 * 2**20
"""Bytes of one file in the repository, at most."""


def ship(source: Path, target: Path | None = None) -> None:
    """Writes the policy in `source` as float16 to `target`, the folder of its world's shipped policy if not given.

    Jobs read it back as float32.

    Raises:
        UserError: `source` is no policy, or too large to ship.
    """
    world = world_of(source)
    check_policy(source, world)
    target = target or shipped_policy(world)
    model, processor = load_policy(source)
    size = 2 * sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST:
        most = LARGEST / 2**20
        raise UserError(f"{source} has {size / 2**20:.1f} MiB in half precision: at most {most:.0f} are shipped")
    aside = target.with_name(f".{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    model.to(torch.float16).save_pretrained(aside)
    processor.save_pretrained(aside)
    write_world(aside, world)
    manifest.write(aside, "policy")
    if not (target / "README.md").is_file():  # people may edit it: it is in no manifest
        (aside / "README.md").write_text(make_card(source, "policy", target.name, licence="apache-2.0"))
    manifest.replace(target, aside)


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
