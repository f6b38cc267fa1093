"""Which policies answer in this world."""

import json

import pytest

from configs import UserError
from configs.schema import World
from envs import world as policy_world
from envs.world import CHAT, FILE, SHIPPED, check_world, policy_folder, template_hash, world_of, write_world


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


def write_without(folder, name):
    """What an older version wrote, which did not know `name`."""
    write_world(folder, World())
    card = json.loads((folder / FILE).read_text())
    del card[name]
    (folder / FILE).write_text(json.dumps(card))


def test_a_card_without_a_setting_means_its_default(folder):
    write_without(folder, "composites")
    check_world(folder, World())
    with pytest.raises(UserError, match="composites is 1 there and 3 here"):
        check_world(folder, World(composites=3))


def test_a_policy_asked_in_other_words_than_at_its_training_is_refused(folder, monkeypatch):
    (folder / CHAT).write_text("{% for message in messages %}...")
    write_world(folder, World())
    check_world(folder, World())
    (folder / CHAT).write_text("another")
    with pytest.raises(UserError, match="another prompt template"):
        check_world(folder, World())
    write_world(folder, World())
    monkeypatch.setattr(policy_world, "QUESTION", "What is wrong here?")
    with pytest.raises(UserError, match="another prompt template"):
        check_world(folder, World())


def test_a_policy_that_is_older_than_the_hash_is_taken(folder):
    write_without(folder, "template")
    check_world(folder, World())


def test_the_shipped_policy_says_how_it_is_asked():
    assert json.loads((SHIPPED / FILE).read_text())["template"] == template_hash(SHIPPED, world_of(SHIPPED))
