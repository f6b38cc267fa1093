"""Which policies answer in this world."""

import json

import pytest

from configs import UserError
from configs.schema import World
from envs.policy_world import FILE, check_world, policy_folder, write_world


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_policy_of_another_number_of_degradations_at_once_is_refused(folder):
    write_world(folder, World(composites=2))
    check_world(folder, World(composites=2))
    with pytest.raises(UserError, match="composites is 2 there and 1 here"):
        check_world(folder, World())


def test_where_haze_comes_from_may_differ(folder):
    write_world(folder, World(depth="procedural"))
    check_world(folder, World(depth="none"))
    assert policy_folder("shipped", World(depth="file"))


def test_a_card_without_a_setting_means_its_default(folder):
    write_world(folder, World())
    card = json.loads((folder / FILE).read_text())
    del card["composites"]
    (folder / FILE).write_text(json.dumps(card))
    check_world(folder, World())
    with pytest.raises(UserError, match="composites is 1 there and 3 here"):
        check_world(folder, World(composites=3))
