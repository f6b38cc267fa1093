"""Settings: every key is checked, and a wrong one gets one clear message."""

import dataclasses
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from configs import Config, UserError, config_to_yaml, load, run_folder
from configs import help as texts
from configs.jobs import jobs
from configs.load import TRACKS, changed
from configs.schema import ALIASES
from configs.settings import settings

ROOT = Path(__file__).parents[2]
NUMBERS = {key: setting for key, setting in settings().items() if setting.kind in (int, float)}
TRACK_NAMES = sorted(file.parent.name for file in TRACKS.glob("*/common.yaml"))


def read(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def test_settings_are_importable_in_a_fresh_interpreter_without_torch_or_ray():
    code = (
        "import sys, configs, configs.cluster.connect, configs.cluster.submission, duvlm\n"
        "configs.load('offline', ['steps=3'])\n"
        "print([m for m in ('torch', 'ray', 'numpy', 'vllm', 'deepspeed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("track", TRACK_NAMES)
@pytest.mark.parametrize("job", jobs())
def test_every_track_has_valid_settings_for_every_job(track, job):
    assert isinstance(load(job, [f"track={track}"]), Config)


def test_every_setting_has_a_sentence_and_a_default_within_its_range():
    assert all(setting.help.endswith(".") for setting in settings().values())
    for key, setting in NUMBERS.items():
        assert setting.low <= read(Config(), key) <= setting.high, key


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_at_the_ends_of_its_range_is_taken_and_beyond_refused(key):
    setting = NUMBERS[key]
    for end, beyond in ((setting.low, -1), (setting.high, 1)):
        assert read(load("offline", [f"{key}={end}"]), key) == setting.kind(end)
        with pytest.raises(UserError, match=f"{key}: expected"):
            load("offline", [f"{key}={end + beyond}"])


def test_a_pair_of_numbers_is_a_pair_within_its_range():
    assert load("offline", ["grpo.clip=[0.1,0.25]"]).grpo.clip == [0.1, 0.25]
    for wrong in ("[0.1]", "[0.1,0.2,0.3]", "[0.1,many]", "[0.1,11]", "[-1,0.2]", "[nan,0.2]", "[]"):
        with pytest.raises(UserError, match="grpo.clip: expected"):
            load("offline", [f"grpo.clip={wrong}"])


@given(
    key=st.sampled_from(sorted(NUMBERS)),
    word=st.sampled_from(["", "many", "nan", "inf", "-inf", "1e999", "[1]", "1;2"]),
)
def test_what_is_no_number_is_refused_where_a_number_is_due(key, word):
    with pytest.raises(UserError, match="number"):
        load("offline", [f"{key}={word}"])


@given(st.text(max_size=40))
def test_any_override_is_taken_or_refused_as_a_user_s_error(text):
    with suppress(UserError):
        load("offline", [text])


@given(st.text(max_size=40).filter(lambda text: not {"\r", "$"} & set(text)))
def test_text_settings_keep_what_was_typed(text):
    assert load("offline", [f"policy={text}"]).policy == text


@pytest.mark.parametrize("text", ["learner.lr=1e-4", "learner.lr=0.0001", "learner.lr=.0001"])
def test_small_numbers_may_be_written_as_people_do(text):
    assert load("sft", [text]).learner.lr == 1e-4


@pytest.mark.parametrize("text", ["steps=1e3", "steps=1000", "steps=1000.0", "steps=+1000"])
def test_whole_numbers_may_be_written_as_people_do(text):
    assert load("sft", [text]).steps == 1000


def test_a_setting_may_refer_to_another():
    assert load("sft", ["name=first", "corpus=runs/${name}/corpus"]).corpus == "runs/first/corpus"
    with pytest.raises(UserError, match="corpus: Interpolation key 'nome' not found"):
        load("sft", ["corpus=runs/${nome}/corpus"])


def test_an_earlier_name_of_a_setting_is_still_understood(monkeypatch):
    monkeypatch.setitem(ALIASES, "reward.workers", "reward.actors")
    monkeypatch.setitem(ALIASES, "reward.magic", "")
    assert load("offline", ["reward.workers=3", "reward.magic=1"]).reward.actors == 3
    assert changed(Config(), {"reward": {"workers": 4, "magic": [1]}}).reward.actors == 4


def test_changed_settings_leave_the_first_as_they_were_and_name_their_source():
    first = Config()
    assert changed(first, {"world.views": ["fft"]}).world.views == ["fft"]
    assert first == Config()
    with pytest.raises(UserError, match="there.yaml: reward.actors: expected a whole number, got 'x'"):
        changed(first, {"reward": {"actors": "x"}}, "there.yaml")


def test_a_later_override_wins_and_overrides_win_over_the_track():
    assert load("offline", ["seed=1", "seed=2"]).seed == 2
    assert load("offline", ["track=qwen3vl_8b"]).world.camera
    assert load("sft", ["track=qwen3vl_8b"]).learner.lr == 1e-5  # the paper's, Section 5.1
    assert not load("offline", ["world.camera=false", "track=qwen3vl_8b"]).world.camera


def test_the_world_is_that_of_the_policy_else_of_the_corpus_unless_one_is_named(tmp_path):
    policy, corpus = ROOT / "learner" / "weights" / "policy_open", tmp_path / "corpus"
    paper, opened = load("sft").world, load("sft", ["world=open"]).world
    assert load("evaluate", [f"policy={policy}"]).world == opened
    assert load("evaluate", [f"policy={policy}", "world=paper"]).world == paper
    assert load("evaluate", [f"policy={policy}", "world.views=[image]"]).world.views == ["image"]
    corpus.mkdir()
    (corpus / "corpus.json").write_text(json.dumps({"size": 48, "world": {"camera": True, "depth": "file"}}))
    for named in ("corpus", "probe"):
        assert load("online", [f"{named}={corpus}"]).world == replace(paper, size=48, camera=True, depth="file")
    both = load("sft", [f"policy={policy}", f"corpus={corpus}"]).world
    assert both == replace(load("evaluate", [f"policy={policy}"]).world, depth="file")
    (corpus / "corpus.json").write_text("{")
    assert load("sft", [f"corpus={corpus}"]).world == paper  # the job that opens it says what is wrong


def test_lists_take_known_words_only():
    assert load("sft", ["world.views=[image,edge]"]).world.views == ["image", "edge"]
    assert load("sft", ["world.views=image"]).world.views == ["image"]
    for wrong in ("world.views=[image,wavelet]", "world.views=[]", "world.views="):
        with pytest.raises(UserError):
            load("sft", [wrong])


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("reward.actor=3", "reward.actors"), ("group_size=4", "rollout.group_size"), ("step=4", "steps")],
)
def test_an_unknown_key_names_the_nearest(override, nearest):
    with pytest.raises(UserError, match=f"unknown setting .*{nearest}"):
        load("offline", [override])


def test_unknown_jobs_tracks_and_shapeless_words_are_refused():
    for job, overrides in (
        ("ofline", []),
        ("offline", ["track=huge"]),
        ("offline", ["photos"]),
        ("offline", ["=3"]),
    ):
        with pytest.raises(UserError, match=r"expected|unknown"):
            load(job, overrides)


def test_json_of_a_degradation_survives_and_broken_json_is_refused():
    text = '{"type": "blur", "values": {"sigma": 2.0}}'
    assert load("restore", [f"degradation={text}"]).degradation == text
    for wrong in (
        '{"type": blur}',
        "blur",
        "[]",
        "null",
        '{"type": "blur"}',
        '{"type": "blur", "values": 2}',
    ):
        with pytest.raises(UserError, match="degradation: expected JSON"):
            load("restore", [f"degradation={wrong}"])


def test_the_resolved_settings_read_back_as_the_same_settings():
    config = load("offline", ["steps=7", "world.views=[image]", "name=x", "learner.lr=3e-5"])
    assert yaml.safe_load(config_to_yaml(config, "offline")) == dataclasses.asdict(config)


def test_a_run_writes_to_its_name_and_job_or_where_it_is_told():
    assert run_folder(load("sft", ["name=first"]), "sft") == Path("runs/first/sft")
    assert run_folder(load("sft", ["out=/tmp/here"]), "sft") == Path("/tmp/here")
    for name in ("../up", "a/b", ".hidden"):
        with pytest.raises(UserError, match="name"):
            load("sft", [f"name={name}"])


def test_the_page_about_settings_is_up_to_date():
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert texts.for_docs() in page, (
        "run `python -m configs.help` to write docs/configuration.md anew"
    )


def test_every_test_file_that_the_readme_names_is_there():
    words = (ROOT / "tests" / "README.md").read_text().replace("`", " ").split()
    named = [word for word in words if word.startswith("tests/") and "*" not in word]
    assert named
    assert [word for word in named if not (ROOT / word).exists()] == []
