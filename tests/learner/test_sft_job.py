"""`duvlm run sft` as a whole: slow because it builds a corpus and starts two DeepSpeed ranks twice."""

import json
import math
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from configs import UserError, load, manifest
from envs.corpus import build, generate
from envs.corpus.card import make_card
from envs.corpus.shards import as_table
from learner import sft
from learner.checks import notes
from learner.sft import check_sft, exhausted, steps_of, validate


def config(out, *changes):
    small = ["steps=4", "learner.batch=4", "learner.checkpoint_every=2", "world.size=64"]
    return load("sft", ["world=paper", "policy=random", "count=40", f"out={out}", *small, *changes])


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    sft.run(config(whole))
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "policy")
    shutil.rmtree(broken / "checkpoints" / "step-00000004")
    (broken / "summary.json").unlink()
    sft.run(config(broken))
    weights = "policy/model.safetensors"
    assert (whole / weights).read_bytes() == (broken / weights).read_bytes()
    steps = [[json.loads(line)["step"] for line in (out / "metrics.jsonl").open()] for out in (whole, broken)]
    assert steps == [[1, 2, 3, 4]] * 2
    summary = json.loads((broken / "summary.json").read_text())
    assert summary["steps"] == 4
    assert 0 <= summary["val_j_acc"] <= 1


def test_a_batch_that_does_not_divide_over_ranks_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not divide"):
        sft.run(config(tmp_path, "learner.batch=5"))


@pytest.mark.parametrize(
    ("errors", "patience", "ends"),
    [
        ([], 1, False),
        ([0.3], 1, False),
        ([0.3, 0.3], 1, True),
        ([0.3, 0.2], 1, False),
        ([0.3, 0.2, 0.25, 0.21], 2, True),
        ([0.3, 0.2, 0.25, 0.19], 2, False),
        ([0.3, math.nan, 0.2], 2, False),
        ([0.3, math.nan, math.nan], 2, True),
        ([0.3] * 50, 0, False),
    ],
)
def test_patience_ends_a_run_after_so_many_validations_without_a_better_one(errors, patience, ends):
    assert exhausted(errors, patience) is ends


@pytest.fixture(scope="module")
def unvalidated(tmp_path_factory):
    """A corpus of a training split alone."""
    settings = load("corpus", ["world=paper", "count=40", "world.size=64"])
    folder = tmp_path_factory.mktemp("unvalidated")
    recipe = replace(build.plan(settings)[0], counts={"train": 4})
    rows = [generate.row(recipe, "train", index) for index in range(4)]
    pq.write_table(as_table(rows, recipe.world), folder / "train-00000-of-00001.parquet")
    (folder / "corpus.json").write_text(json.dumps(make_card(recipe, {})))
    return folder


def test_without_a_validation_split_nothing_is_validated(unvalidated, tmp_path):
    settings = config(tmp_path, f"corpus={unvalidated}")
    assert validate(settings, None, unvalidated) == {}
    settings.learner.patience = 2
    with pytest.raises(UserError, match="learner.patience=2 needs validation"):
        sft.run(settings)


class StandIn:
    """A learner whose policy is the number of the steps it has made."""

    def __init__(self):
        self.steps = 0

    def open_corpus(self, *_): ...

    def sft_corpus_step(self, step):
        self.steps = step + 1
        return {"loss": 0.0}

    def save_policy(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps").write_text(str(self.steps))

    def save(self, folder):
        self.save_policy(folder / "policy")

    def load(self, folder):
        self.steps = int((folder / "policy" / "steps").read_text())
        return self.steps


@pytest.mark.parametrize(("steps", "best"), [(4, 4), (8, 6)])  # nothing is left to do; two more validations
def test_patience_set_on_the_way_counts_from_the_checkpoint_on(unvalidated, tmp_path, monkeypatch, steps, best):
    errors = {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.25}
    monkeypatch.setattr(sft, "validate", lambda config, learner, corpus: {"val_p_rel": errors[learner.steps]})
    sft._train(config(tmp_path), tmp_path, unvalidated, StandIn())
    assert (tmp_path / "policy" / "steps").read_text() == "4"
    sft._train(config(tmp_path, "learner.patience=9", f"steps={steps}"), tmp_path, unvalidated, StandIn())
    assert (tmp_path / "policy" / "steps").read_text() == str(best)


def test_a_policy_is_not_given_up_for_one_that_is_missing(tmp_path):
    (tmp_path / "policy").mkdir()
    with pytest.raises(FileNotFoundError):
        sft._replace(tmp_path / "policy", tmp_path / "best")
    assert (tmp_path / "policy").is_dir()


def test_the_host_cannot_hold_an_optimiser_that_is_not_partitioned(tmp_path):
    with pytest.raises(UserError, match="learner.zero"):
        sft.run(config(tmp_path, "learner.memory=[offload]", "learner.zero=0"))


@pytest.mark.parametrize("trained", ["norms", "final_norm"])
def test_norms_have_no_adapters(tmp_path, trained):
    with pytest.raises(UserError, match="learner.lora"):
        sft.run(config(tmp_path, f"learner.trained={trained}", "learner.lora=4"))


def test_a_run_without_steps_is_refused(tmp_path):
    with pytest.raises(UserError, match="steps"):
        sft.run(config(tmp_path, "steps=0"))


def test_epochs_are_passes_over_the_corpus_and_steps_come_first():
    config = load("sft", ["track=qwen3vl_8b"])
    assert (config.steps, config.epochs, config.learner.batch) == (0, 10, 32)
    assert steps_of(config, 103_000) == 32_188
    assert steps_of(load("sft", ["steps=0", "epochs=0.5", "learner.batch=8"]), 41) == 3
    check_sft(config)
    with pytest.raises(UserError, match="or epochs"):
        check_sft(load("sft", ["steps=0"]))


def test_a_prior_of_faces_before_driving_scenes_is_told():
    driving = load("offline", ["track=qwen3vl_8b", "photos=bdd100k:A,nuscenes:B"])
    assert "knows faces" in notes(driving)[0]
    assert notes(load("offline", ["track=qwen3vl_8b", "photos=celeba:A"])) == []
    assert driving.learner.lr < load("sft", ["track=qwen3vl_8b"]).learner.lr


def test_weights_that_somebody_put_beside_a_checkpoint_do_not_come_along(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.safetensors").write_text("ours")
    manifest.write(source, "policy")
    (source / "other.safetensors").write_text("somebody's")
    sft._replace(tmp_path / "best", source)
    assert manifest.listing(tmp_path / "best") == [manifest.NAME, "model.safetensors"]
    assert (source / "other.safetensors").exists()
