"""Shipping a policy: half precision, its own world, beside the one of the other world."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from configs import UserError
from configs.load import load
from envs.world import SHIPPED, shipped_policy, world_of, world_taxonomy, write_world
from learner.policy.ship import ship
from learner.policy.tiny import build_tiny_policy


def test_a_world_without_a_shipped_policy_says_so():
    world = load("sft", ["world=paper"]).world
    assert shipped_policy(world) == SHIPPED
    assert world_of(SHIPPED) == world
    with pytest.raises(UserError, match="no policy is shipped for the open world"):
        shipped_policy(load("sft", ["world=open"]).world)


def test_a_policy_is_shipped_in_half_precision_with_its_world(tmp_path):
    world = load("sft", ["world=open", "world.size=64"]).world
    source = build_tiny_policy(tmp_path / "policy", world_taxonomy(world), 64)
    write_world(source, world)
    ship(source, tmp_path / "shipped")
    weights = load_file(tmp_path / "shipped" / "model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float16"}
    assert world_of(tmp_path / "shipped") == world


def test_what_is_no_policy_is_not_shipped(tmp_path):
    with pytest.raises(UserError):
        ship(tmp_path, tmp_path / "shipped")
