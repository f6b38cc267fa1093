"""The ceiling: a network that does nothing else learns to read a number off pictures."""

import numpy as np
import pytest

from benchmarks.quality import ceiling, regressor
from configs import UserError, load
from envs.corpus.generate import degrade
from envs.language.reading import read_degradation
from envs.metrics import measure
from envs.taxonomy import TAXONOMY
from envs.types import Sample

VIEWS = ("image", "fft")


def blurred(photo, count, seed):
    """Samples of 48 px, cut from anywhere."""
    rng, key, made = np.random.default_rng(seed), TAXONOMY.keys["sigma"], []
    for number in range(count):
        top, left = rng.integers(0, photo.shape[0] - 47), rng.integers(0, photo.shape[1] - 47)
        clean = np.ascontiguousarray(photo[top : top + 48, left : left + 48])
        truth = TAXONOMY.degradation("blur", {"sigma": key.snap(rng.uniform(key.low, key.high))})
        made.append(Sample(f"s-{number}", "photo", "train", degrade(clean, truth, None), clean, truth))
    return made


def test_it_learns_to_read_a_number_that_the_picture_shows(photo):
    train, test = blurred(photo, 64, seed=0), blurred(photo, 32, seed=1)
    network, losses = regressor.fit(train, TAXONOMY, VIEWS, updates=80, seed=0)
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    truths = [sample.degradation for sample in test]
    answers = [read_degradation(found) for found in regressor.read(network, test, TAXONOMY, VIEWS)]
    middle = TAXONOMY.degradation("blur", {"sigma": float(np.median([truth["sigma"] for truth in truths]))})
    constant = measure(truths, [read_degradation(middle)] * len(test), TAXONOMY, resamples=0).p_rel
    found = measure(truths, answers, TAXONOMY, resamples=0)
    assert found.t_acc == 1  # it is told the type
    assert found.p_rel < 0.6 * constant


def test_it_repeats_itself(photo):
    train = blurred(photo, 8, seed=0)
    first, second = (regressor.fit(train, TAXONOMY, VIEWS, updates=2, seed=3)[1] for _ in range(2))
    assert first == second


def test_without_a_corpus_or_an_update_it_says_what_to_do():
    with pytest.raises(UserError, match="corpus=FOLDER"):
        ceiling.run(load("evaluate", []))
    with pytest.raises(UserError, match="at least 1"):
        ceiling.run(load("evaluate", ["corpus=anywhere"]), updates=0)
