"""The tutorial on comparing methods: its script runs and makes what its commands take; the commands are understood."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from corpora import written

import duvlm
from benchmarks.quality.foreign import check_given, given_picture
from configs import load
from envs.corpus.reader import read_samples
from envs.taxonomy import TAXONOMY

PAGE = Path(__file__).parents[3] / "docs" / "tutorials" / "comparison.md"


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which the script of the page has run, on a corpus of eight samples of 48 px."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "corpus").mkdir()
    written(folder / "corpus", 80)
    (script,) = blocks("python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(script, str(PAGE), "exec"), {"__name__": "tutorial"})
    return folder


def test_every_command_of_the_page_is_understood():
    commands = [line.split() for block in blocks("") for line in block.splitlines()]
    assert [command[2] for command in commands] == ["corpus", "sft", *["evaluate"] * 3, "compare", "evaluate"]
    for program, run, job, *settings in commands:
        assert (program, run) == ("duvlm", "run")
        load(job, settings)


def steps(picture):
    return np.abs(np.diff(picture.astype(float), axis=0)).mean()


def test_the_pictures_of_both_methods_are_taken_and_are_what_they_say(made):
    samples = read_samples(made / "corpus", "test", TAXONOMY)
    folders = {name: made / name for name in ("deblurred", "bicubic")}
    check_given(folders, samples.sample_ids(), 48)
    for sample in samples:
        half = sample.degraded.reshape(24, 2, 24, 2, 3).mean((1, 3)).round().astype(np.uint8)
        again = cv2.resize(half, (48, 48), interpolation=cv2.INTER_CUBIC)
        given = given_picture(folders["bicubic"], sample.sample_id).astype(int)
        assert np.abs(given - again).max() <= 4  # OpenCV rounds halves otherwise
        if sample.degradation.type == "blur" and sample.degradation["sigma"] > 0.8:
            sharper = given_picture(folders["deblurred"], sample.sample_id)
            assert steps(sharper) > steps(sample.degraded)


def test_the_answers_of_the_constant_model_are_evaluated(made):
    out = made / "scores"
    settings = [f"corpus={made / 'corpus'}", f"policy={made / 'constant.jsonl'}", f"out={out}", "world.size=48"]
    assert duvlm.main(["run", "evaluate", *settings]) == 0
    assert (out / "report.html").is_file()
