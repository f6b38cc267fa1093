"""Corpora stay what they were: recipes that people have reviewed, crops and values that tables were measured on."""

import hashlib

import pytest

from configs.schema import Config, World
from envs.corpus.build import plan
from envs.corpus.generate import decode, row

WORLDS = {
    "paper": World(),
    "camera": World(camera=True, transmission_grid=4),
    "composites": World(composites=3),
    "depth": World(depth="procedural", transmission_grid=4, composites=2),
}
GOLDEN = {
    "paper": ("a7c1460a739ce659", "b90e021c7c6ae2f0"),
    "camera": ("e70511819bc0dc45", "7f3864b4c71d6061"),
    "composites": ("436a2dfac9254834", "51a6111b59ea91ec"),
    "depth": ("c9c2c0fe61c179fa", "ae484a14ee24e437"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_recipe_and_its_samples_are_those_of_the_first_release(name):
    recipe, _ = plan(Config(count=400, size=48, world=WORLDS[name]))
    digest = hashlib.sha256()
    for split in recipe.counts:
        for index in range(8):
            sample = row(recipe, split, index)
            digest.update(repr([sample[key] for key in ("sample_id", "photo_id", "type", "values", "answer")]).encode())
            digest.update(decode(sample["clean"]).tobytes())
    assert (recipe.fingerprint(), digest.hexdigest()[:16]) == GOLDEN[name]
