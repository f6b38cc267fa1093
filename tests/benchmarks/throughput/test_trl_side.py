"""What the comparison with TRL says where something is missing."""

from benchmarks.__main__ import main


def test_without_a_corpus_the_comparison_says_how_to_build_one(capsys):
    assert main(["end_to_end"]) == 2
    assert "expected corpus=FOLDER" in capsys.readouterr().err
