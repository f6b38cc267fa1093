"""The page about the Python API is typed line by line."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_reading_restoring_and_degrading_as_the_page_says(monkeypatch):
    monkeypatch.chdir(PAGE.parents[1])
    names: dict = {}
    exec(blocks()[0], names)
    assert names["restored"].action == "restored"
    assert names["restored"].picture.shape == names["blurred"].shape == names["again"].picture.shape
    assert len(names["readings"]) == 2
    assert not np.array_equal(names["blurred"], names["again"].picture)
