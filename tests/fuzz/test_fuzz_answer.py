"""Whatever a model writes, the readers return an answer or a reason, soon and in little memory."""

import pytest

from benchmarks import fuzz_answer
from envs.language.reading import read_object
from envs.taxonomy import TAXONOMY


def test_twenty_thousand_strings_are_read():
    report = fuzz_answer.run(seed=1, count=20_000)
    assert report.outcomes["answer"] > 1000  # the strings are not all hopeless
    assert len(report.outcomes) >= 8


@pytest.mark.slow  # three minutes of one core
def test_a_million_strings_are_read():
    assert fuzz_answer.run(seed=2, count=1_000_000).strings == 1_000_000


def test_a_reader_that_raises_is_caught_with_its_string(monkeypatch):
    def fragile(text, world):
        if "[V-.5]" in text:
            raise ValueError(text)
        return fuzz_answer.Invalid("no_answer")

    monkeypatch.setattr(fuzz_answer, "parse", fragile)
    with pytest.raises(AssertionError, match="of seed 1"):
        fuzz_answer.run(seed=1, count=2000)


def test_a_reader_of_quadratic_time_is_caught(monkeypatch):
    def slow(text, world):
        sum(1 for _ in range(len(text) ** 2))
        return fuzz_answer.Invalid("no_answer")

    monkeypatch.setattr(fuzz_answer, "parse", slow)
    with pytest.raises(AssertionError, match="characters"):
        fuzz_answer.run(seed=1, count=500)


@pytest.mark.parametrize("values", [{1: 2.0, "sigma": 2.0}, {"sigma": 2.0, None: 1}, {("a",): 1}])
def test_keys_that_are_no_names_are_wrong_keys(values):
    assert read_object({"type": "blur", "values": values}, TAXONOMY).reason == "wrong_keys"
