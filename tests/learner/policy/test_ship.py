"""Shipping a policy: half precision, its own world, beside the one of the other world."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from configs import UserError
from configs.load import load
from envs.world import SHIPPED, SHIPPED_OPEN, check_policy, shipped_policy, world_of, world_taxonomy, write_world
from learner.policy.ship import ship
from learner.policy.tiny import build_tiny_policy


def test_each_world_has_its_shipped_policy():
    for name, folder in (("paper", SHIPPED), ("open", SHIPPED_OPEN)):
        world = load("sft", [f"world={name}"]).world
        assert shipped_policy(world) == folder
        assert world_of(folder) == world
        check_policy(folder, world)


def test_a_policy_is_shipped_in_half_precision_with_its_world(tmp_path):
    world = load("sft", ["world=open", "world.size=64"]).world
    source = build_tiny_policy(tmp_path / "policy", world_taxonomy(world), 64)
    write_world(source, world)
    ship(source, tmp_path / "shipped")
    weights = load_file(tmp_path / "shipped" / "model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float16"}
    assert world_of(tmp_path / "shipped") == world
    (tmp_path / "shipped" / "README.md").write_text("A card that a person wrote.")
    check_policy(tmp_path / "shipped", world)


def test_what_is_no_policy_is_not_shipped(tmp_path):
    with pytest.raises(UserError):
        ship(tmp_path, tmp_path / "shipped")
