"""Severity in words: by fixed thresholds of a key, or by thirds of what is drawn, at every size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from configs.load import load
from configs.schema import World
from envs.degradations import sample
from envs.language.answer import rationale
from envs.taxonomy import taxonomy, world_taxonomy
from envs.world import template_hash

TYPES = ["haze", "low_light", "blur", "low_resolution"]


def shares(world, name, size, draws=900):
    rng = np.random.default_rng(7)
    words = Counter(rationale(sample(world, name, rng, size), world).split()[0] for _ in range(draws))
    return [words[word] / draws for word in ("Mild", "Moderate", "Severe")]


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("name", TYPES)
def test_each_word_has_a_third_of_the_samples_at_every_size(name, size):
    assert shares(taxonomy(severity="law", size=size), name, size) == pytest.approx([1 / 3] * 3, abs=0.07)


def test_fixed_thresholds_call_nearly_every_blur_severe_in_a_large_picture():
    assert shares(taxonomy(size=256), "blur", 256)[2] > 0.8


def test_low_light_goes_by_gain_and_gamma():
    law, key = taxonomy(severity="law"), taxonomy()
    bright = key.degradation("low_light", {"gamma": 3.2, "gain": 0.5})
    assert rationale(bright, key).startswith("Severe")
    assert rationale(bright, law).startswith("Mild")


def test_a_world_without_the_setting_means_what_it_meant():
    world = World(**{"severity": "key"})
    assert World().severity == "key"
    assert world_taxonomy(world).words_at == 0
    assert load("sft", ["track=qwen3vl_8b"]).world.severity == "law"


def test_prompts_of_the_two_differ_in_their_hash(tmp_path):
    assert template_hash(tmp_path, World()) != template_hash(tmp_path, World(severity="law"))
