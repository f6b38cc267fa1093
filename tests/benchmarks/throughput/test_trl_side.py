"""What the comparison with TRL says where something is missing."""

import pytest

from benchmarks.__main__ import main
from benchmarks.throughput import trl_side
from configs import UserError


def test_without_trl_the_comparison_names_the_command_that_installs_it(tmp_path):
    with pytest.raises(UserError, match=f"`pip install --target {tmp_path} --no-deps trl=="):
        trl_side.check(tmp_path)


def test_without_a_corpus_the_comparison_says_how_to_build_one(tmp_path, capsys):
    (tmp_path / "trl").mkdir()
    assert main(["end_to_end", "--trl", str(tmp_path)]) == 2
    assert "expected corpus=FOLDER" in capsys.readouterr().err
