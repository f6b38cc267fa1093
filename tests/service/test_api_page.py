"""The page about the Python API is typed line by line."""

import re
from pathlib import Path

import numpy as np
import pytest

import duvlm
from configs import UserError

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


def test_a_score_is_that_of_the_terms_and_an_unknown_one_is_the_users_error():
    from reward_actors.scoring import no_reference

    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for metric in ("niqe_local", "spectrum"):
        assert duvlm.score(picture, metric) == no_reference.score(metric, picture.astype(np.float32) / 255)
    with pytest.raises(UserError, match="no score is called 'beauty'|needs pyiqa"):
        duvlm.score(picture, "beauty")
