"""`duvlm run online` as a whole: on pictures and nothing else, measured on a corpus that it never learns from."""

import json

import numpy as np
import pytest
from PIL import Image
from running import duvlm, rows

from envs.corpus.generate import degrade
from envs.degradations import sample
from envs.taxonomy import TAXONOMY

SMALL = ["grpo.prompts=2", "rollout.group_size=4", "learner.micro_tokens=320", "steps=2", "learner.checkpoint_every=2"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def degraded(tmp_path_factory, photo):
    """A folder of three degraded pictures, and no word about them."""
    folder, rng = tmp_path_factory.mktemp("degraded"), np.random.default_rng(0)
    for name in ("haze", "low_light", "blur"):
        picture = degrade(photo, sample(TAXONOMY, name, rng, 128))
        Image.fromarray(picture).save(folder / f"{rng.integers(1e6)}.png")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("online") / "corpus"
    duvlm("corpus", "world=paper", "count=24", f"out={folder}")
    return folder


def test_online_learns_from_pictures_alone_and_only_reports_its_probe(degraded, corpus, tmp_path):
    scorer = "reward.scorer=consistency:2,range,brightness"
    duvlm("online", f"photos={degraded}", f"probe={corpus}", "limit=3", scorer, *SMALL, f"out={tmp_path}")
    steps = rows(tmp_path)
    names = {picture.stem for picture in degraded.iterdir()}
    assert {sample_id for step in steps for sample_id in step["sample_ids"]} == names
    for step in steps:
        assert {"consistency", "range", "brightness"} <= set(step["scored"]) or step["scored"]["share"] == 0
        assert not {"mse", "psnr"} & set(step["scored"])  # nobody knew a truth
        assert -1 <= step["reward"] <= 1
    assert "probe" not in steps[0]
    assert set(steps[1]["probe"]) == {"j_acc", "t_acc", "p_rel"}
    assert json.loads((tmp_path / "summary.json").read_text())["probe"] == steps[1]["probe"]


@pytest.mark.slow
def test_a_mixed_job_shows_labelled_and_unlabelled_pictures(degraded, corpus, tmp_path):
    duvlm("online", f"photos={degraded}", f"corpus={corpus}", "mix=0.5", *SMALL, f"out={tmp_path}")
    shown = [sample_id.startswith("labelled/") for step in rows(tmp_path) for sample_id in step["sample_ids"]]
    assert shown == [False, True, False, True]


@pytest.mark.slow
def test_the_value_strategy_trains_without_a_reward_actor(corpus, tmp_path):
    duvlm("offline", f"corpus={corpus}", "reward.strategy=value", *SMALL, f"out={tmp_path}")
    for step in rows(tmp_path):
        assert step["rewards"]["restored"] == 0
        assert -1 <= step["reward"] <= 0
