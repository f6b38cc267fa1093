"""A tiny policy with random weights, and answers about crops of a photograph."""

import numpy as np
import pytest

from envs.degradations import sample
from envs.taxonomy import TAXONOMY


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory):
    from configs.schema import World
    from envs.world import write_world
    from learner.policy.tiny import build_tiny_policy

    folder = build_tiny_policy(tmp_path_factory.mktemp("policy"), TAXONOMY, size=64)
    write_world(folder, World(size=64))
    return folder


@pytest.fixture(scope="session")
def language(policy_folder):
    from transformers import AutoTokenizer

    from learner.policy.targets import AnswerLanguage

    return AnswerLanguage(AutoTokenizer.from_pretrained(policy_folder), TAXONOMY)


@pytest.fixture(scope="session")
def examples(photo, language):
    """Eight perfect answers of different lengths about eight different crops of 64 px."""
    from learner.policy.collator import Example

    rng, types = np.random.default_rng(0), [kind.name for kind in TAXONOMY.types]
    found = []
    for i in range(8):
        top, left = rng.integers(0, 64, 2)
        crop = np.ascontiguousarray(photo[top : top + 64, left : left + 64])
        found.append(Example(crop, language.completion(sample(TAXONOMY, types[i % 4], rng, 64))))
    return found
