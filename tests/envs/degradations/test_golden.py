"""What was drawn, degraded and restored once is so for ever: values written down before the files were rearranged."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.degradations import closed_form, degrade, depth, project, sample
from envs.language.answer import answer_tokens, write
from envs.language.zero_shot import question
from envs.taxonomy import taxonomy, turns

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
WORLDS = {
    "paper": {},
    "full": {"camera": True, "transmission_grid": 8},
    "triples": {"composites": 3},
    "coarse": {"step_scale": 5.0, "camera": True, "transmission_grid": 4, "composites": 2},
}


def digest(thing) -> str:
    return hashlib.sha256(thing if isinstance(thing, bytes) else repr(thing).encode()).hexdigest()[:16]


def language(world) -> dict:
    return {
        "fingerprint": world.fingerprint(),
        "tokens": digest(answer_tokens(world)),
        "turns": digest([kind.name for kind in turns(world)]),
        "question": digest(question(world, ["image", "fft", "edge", "log"])),
    }


def physics(world, type_name, photo) -> dict:
    """A draw (and what the generator gives after it), the bytes it makes of a photograph, and what is made of those."""
    rng = np.random.default_rng(7)
    drawn = sample(world, type_name, rng, 64)
    hazy, t = depth.sample(world, type_name, rng, 64, depth.procedural(rng, 64, 64))
    x = torch.tensor(photo[:64, :64]).permute(2, 0, 1)[None].float() / 255
    y = degrade(x, [drawn])
    deep = degrade(x, [hazy], None if t is None else torch.from_numpy(t)[None])
    restored = {"closed_form": closed_form(y, [drawn])}
    for level in (1e-3, 0.1, 1e3):
        restored[f"project {level:g}"] = project(x.flip(-1), y, [drawn], torch.tensor([level]))
    return {
        "answer": write(drawn, world),
        "depth": write(hazy, world),
        "next": rng.random(),
        "bytes": [digest((255 * picture).round().byte().numpy().tobytes()) for picture in (y, deep)],
        "restored": {
            name: [round(float(number), 6) for number in (picture.mean(), picture.std(), *picture[0, :, 9, 31])]
            for name, picture in restored.items()
        },
    }


@pytest.mark.parametrize("name", WORLDS)
def test_the_language_of_a_world_is_what_it_was(name):
    assert language(taxonomy(**WORLDS[name])) == GOLDEN[name]["language"]


@pytest.mark.parametrize(
    ("name", "type_name"), [(name, kind.name) for name in WORLDS for kind in taxonomy(**WORLDS[name]).types]
)
def test_draws_pictures_and_restorations_are_what_they_were(name, type_name, photo):
    found, golden = physics(taxonomy(**WORLDS[name]), type_name, photo), GOLDEN[name][type_name]
    restored, wanted = found.pop("restored"), golden["restored"]
    assert found == {key: value for key, value in golden.items() if key != "restored"}
    for way, numbers in wanted.items():
        np.testing.assert_allclose(restored[way], numbers, atol=2e-5, err_msg=way)
