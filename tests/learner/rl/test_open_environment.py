"""Which pictures and which judge an RL job gets, and which requests are refused."""

import numpy as np
import pytest
from PIL import Image

from configs import UserError, load
from envs.environment import MixedEnvironment, OfflineEnvironment, OnlineEnvironment
from envs.types import Prompt
from learner.checks import check_rl
from learner.rl.environment import open_environment
from learner.rl.probe import Probe


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    from envs.corpus import build

    folder = tmp_path_factory.mktemp("worlds") / "corpus"
    build.run(load("corpus", ["world=paper", "count=12", "world.size=64", f"out={folder}"]))
    return folder


@pytest.fixture
def photographs(tmp_path, photo):
    for i in range(3):
        Image.fromarray(np.roll(photo, 20 * i, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def world(job, out, *settings):
    return open_environment(load(job, ["world.size=64", *settings]), job, out)


@pytest.mark.engine
@pytest.mark.usefixtures("ray_cluster")
def test_a_corpus_is_known_offline_blind_online_and_both_in_a_mixed_stream(corpus, tmp_path, photographs):
    offline = world("offline", tmp_path, f"corpus={corpus}")
    assert type(offline.rules) is OfflineEnvironment
    assert offline.samples[0].degradation is not None
    online = world("online", tmp_path, f"corpus={corpus}")
    assert type(online.rules) is OnlineEnvironment
    assert all(sample.clean is None and sample.degradation is None for sample in online.samples)
    mixed = world("online", tmp_path, f"corpus={corpus}", f"photos={photographs}", "mix=0.5")
    assert type(mixed.rules) is MixedEnvironment
    stream = mixed.rules.prompts(seed=0)
    for prompt in (next(stream) for _ in range(8)):
        sample = mixed.samples[prompt.sample]
        assert (sample.clean is not None) == prompt.sample_id.startswith("labelled/")
        assert prompt.sample_id.removeprefix("labelled/") == sample.sample_id
    with pytest.raises(UserError, match="both given"):
        world("online", tmp_path, f"corpus={corpus}", f"photos={photographs}")


def test_pictures_of_another_size_than_the_policy_sees_are_refused(corpus, photographs, tmp_path):
    larger, given = "world.size=128", f"corpus={corpus}"
    with pytest.raises(UserError, match=r"pictures of 64 px, but world.size=128: set world.size=64"):
        world("offline", tmp_path, given, larger)
    with pytest.raises(UserError, match="pictures of 64 px"):
        world("online", tmp_path, given, larger, f"photos={photographs}", "mix=0.5")
    with pytest.raises(UserError, match="pictures of 64 px"):
        Probe(load("online", [larger, f"probe={corpus}"]))


def test_online_learns_from_a_bare_folder(photographs, tmp_path):
    found = world("online", tmp_path, f"photos={photographs}")
    assert type(found.rules) is OnlineEnvironment
    assert len(found.samples) == 3
    prompt = next(found.rules.prompts(seed=0))
    assert prompt == Prompt(found.samples[prompt.sample].sample_id, prompt.sample)
    assert found.samples[prompt.sample].degraded.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("job", "settings", "message"),
    [
        ("offline", ["steps=0"], "steps"),
        ("offline", ["mix=0.5"], "only an online job"),
        ("offline", ["rollout.temperature=0.7"], "samples at 1"),
        ("online", ["rollout.temperature=0"], "samples at 1"),
        ("offline", ["grpo.prompts=1", "rollout.group_size=2", "learner.ranks=4"], "2 answers a step"),
        ("offline", ["rollout.gpus=1"], "give both GPUs"),
        ("offline", ["learner.gpus=0.5", "learner.ranks=1"], "give both GPUs"),
        ("offline", ["rollout.gpus=0.4", "learner.gpus=0.4", "learner.ranks=2"], "one rank a GPU"),
        ("online", ["reward.strategy=value"], "truth"),
        ("online", ["reward.scorer=mse"], "clean picture"),
    ],
)
def test_a_contradictory_request_is_refused_before_anything_starts(job, settings, message):
    with pytest.raises(UserError, match=message):
        check_rl(load(job, settings), job)


def test_a_mixed_stream_without_a_corpus_is_refused(photographs, tmp_path):
    with pytest.raises(UserError, match="corpus="):
        world("online", tmp_path, f"photos={photographs}", "mix=0.5")
