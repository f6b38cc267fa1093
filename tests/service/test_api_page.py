"""The page about the Python API is typed line by line."""

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import written

import duvlm
from configs import UserError, load
from envs.corpus.reader import read_samples
from envs.language.answer import write
from envs.taxonomy import TAXONOMY
from envs.types import Gated

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_reading_restoring_and_degrading_as_the_page_says(monkeypatch):
    monkeypatch.chdir(PAGE.parents[1])
    names: dict = {}
    exec(blocks()[0], names)
    assert (names["restored"].action, names["restored"].reason) == ("left", "none")
    assert names["restored"].picture.shape == names["blurred"].shape == names["again"].picture.shape
    assert len(names["readings"]) == 2
    assert not np.array_equal(names["blurred"], names["again"].picture)
    assert names["distance"] == duvlm.score(names["blurred"], "niqe_local")


def test_every_other_block_of_the_page_is_python_that_runs():
    names: dict = {"duvlm": duvlm}
    for block in blocks()[1:]:
        exec(block, names)
    assert names["PATIENT"].calls == 20
    assert names["colourfulness"](torch.zeros(2, 3, 8, 8)).shape == (2,)


@pytest.mark.engine
def test_rewards_of_a_pool_as_the_page_says(tmp_path):
    names: dict = {"duvlm": duvlm}
    exec(blocks()[1], names)
    names["config"] = load("offline", ["world.size=48", "reward.prior=gaussian", "reward.actors=1", "reward.cpus=0.1"])
    corpus = written(tmp_path, 20, train=2)
    sample = read_samples(corpus, "train", TAXONOMY)[0]
    right, wrong = asyncio.run(names["rewarded"](sample, [write(sample.degradation, TAXONOMY), "nothing"]))
    assert -1 < right.reward < 0
    assert wrong == Gated("no_answer")


def test_a_score_is_that_of_the_terms_and_an_unknown_one_is_the_users_error():
    from reward_actors.scoring import no_reference

    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for metric in ("niqe_local", "spectrum"):
        assert duvlm.score(picture, metric) == no_reference.score(metric, picture.astype(np.float32) / 255)
    with pytest.raises(UserError, match="no score is called 'beauty'|needs pyiqa"):
        duvlm.score(picture, "beauty")
