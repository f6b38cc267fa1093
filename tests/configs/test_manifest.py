"""What the project wrote into a folder is known by its manifest: damage is told, and what people put there stays."""

import json

import pytest

from configs import UserError, manifest
from configs.models import check_model
from envs.world import SHIPPED
from learner.distributed import checkpoint


def policy(folder, text="weights"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(text)
    manifest.write(folder, "policy")
    return folder


def test_a_manifest_is_read_back_with_what_was_noted(tmp_path):
    (tmp_path / "a").write_text("text")
    written = manifest.write(tmp_path, "checkpoint", cursor={"step": 3})
    assert manifest.read(tmp_path) == written
    assert written.facts["cursor"] == {"step": 3}
    assert manifest.faults(tmp_path, written) == {}


@pytest.mark.parametrize("digit", ["bytes", "cursor", "files"])
def test_a_manifest_that_was_changed_is_refused(tmp_path, digit):
    (tmp_path / "a").write_text("text")
    manifest.write(tmp_path, "checkpoint", cursor={"step": 3})
    content = json.loads((tmp_path / manifest.NAME).read_text())
    if digit == "bytes":
        content["files"]["a"]["bytes"] = 5
    else:
        content[digit] = {}
    (tmp_path / manifest.NAME).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"manifest\.json is damaged \(it has changed since it was written\)"):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"files": {}, "cursor": {"step": 1}}', '{"files": {"a": "0"}, "cursor": {}}', "[]"]
)
def test_an_earlier_manifest_without_files_or_cursor_is_refused(tmp_path, content):
    (tmp_path / manifest.NAME).write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        manifest.read(tmp_path)


def test_what_replaces_a_folder_leaves_what_people_put_there(tmp_path):
    folder, new = policy(tmp_path / "policy"), policy(tmp_path / ".policy", "better")
    (folder / "reviews").mkdir()
    (folder / "reviews" / "review.json").write_text("{}")
    (folder / "notes.txt").write_text("years of work")
    manifest.replace(folder, new)
    assert (folder / "model.safetensors").read_text() == "better"
    assert (folder / "notes.txt").read_text() == "years of work"
    assert manifest.foreign(folder) == ["notes.txt", "reviews/review.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_what_a_killed_replacement_left_aside_comes_back(tmp_path):
    folder = policy(tmp_path / "policy")
    (folder / "notes.txt").write_text("years of work")
    folder.rename(tmp_path / ".policy.replaced")  # and then it was killed
    manifest.replace(folder, policy(tmp_path / ".policy"))
    assert (folder / "notes.txt").read_text() == "years of work"


def test_a_folder_of_another_kind_is_not_taken_for_ours(tmp_path):
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "corpus.json").write_text("{}")  # a corpus of an earlier version
    manifest.replace(folder, policy(tmp_path / ".policy"))
    assert (folder / "corpus.json").exists()


def test_old_checkpoints_go_and_what_people_put_there_stays(tmp_path):
    for step in (1, 2, 3):
        draft = checkpoint.begin(tmp_path, step)
        (draft / "rank-0.safetensors").write_text("state")
        done = checkpoint.finish(draft, keep=2, cursor={"step": step})
        (done / "notes.txt").write_text(f"of step {step}")
    assert [checkpoint.step_of(path) for path in checkpoint.checkpoints(tmp_path)] == [2, 3]
    assert [path.name for path in (tmp_path / "step-00000001").iterdir()] == ["notes.txt"]
    checkpoint.discard(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["notes.txt"] * 3


def test_foreign_weights_beside_those_of_a_policy_are_refused(tmp_path):
    folder = policy(tmp_path / "policy")
    (folder / "adapter.safetensors").write_text("of somebody else")
    with pytest.raises(UserError, match=r"adapter\.safetensors is not of this policy"):
        check_model(folder, "policy")


def test_the_shipped_models_are_what_their_manifests_say():
    check_model(SHIPPED, "policy")
    check_model(SHIPPED.parents[2] / "reward_actors" / "weights" / "prior", "prior")
