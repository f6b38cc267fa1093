"""Policies, priors and corpora on the Hub: published to a local stand-in of it, and used by their names there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_stand_in import TOKEN, hub_stand_in
from huggingface_hub import ModelCard

from configs import UserError
from configs.hub.cards import make_card
from configs.hub.publish import publish
from envs.world import SHIPPED

ROOT = Path(__file__).parents[2]
PRIOR = ROOT / "reward_actors" / "weights" / "prior"


@pytest.fixture(scope="module")
def hub():
    with hub_stand_in() as started:
        yield started


def run(hub, home, *arguments, token=TOKEN):
    """duvlm, in a process of its own: where the Hub is, is read once a process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_TOKEN": token, **hub.environment(home)}
    command = [sys.executable, *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def prior(tmp_path):
    """A whole prior, with something beside it that nobody shall see."""
    folder = tmp_path / "prior"
    shutil.copytree(PRIOR, folder)
    (folder / "README.md").unlink()
    (folder / "notes.txt").write_text("mine alone")
    return folder


def test_a_published_prior_is_used_by_its_name_and_its_revision(hub, tmp_path, prior):
    published = run(hub, tmp_path, ROOT / "duvlm.py", "publish", prior, "someone/photo-prior", "--licence=apache-2.0")
    assert published.returncode == 0, published.stderr
    commit = published.stdout.splitlines()[-1].rpartition("/")[2]
    files = hub.files("someone/photo-prior")
    written = json.loads((prior / "manifest.json").read_text())["files"]
    assert set(files) == {*written, "manifest.json", "README.md"}
    assert ModelCard(files["README.md"].decode()).data.license == "apache-2.0"

    program = f"""
from configs.cluster.connect import _check_prior
from reward_actors.priors.load import load_prior
for name in ("someone/photo-prior", "someone/photo-prior@{commit}"):
    _check_prior(name)
    print(load_prior(name, 64).fingerprint)
print(load_prior("shipped", 64).fingerprint)
"""
    used = run(hub, tmp_path, "-c", program)
    assert used.returncode == 0, used.stderr
    assert len(set(used.stdout.split())) == 1

    unknown = run(hub, tmp_path, ROOT / "duvlm.py", "run", "restore", "image=x.png", "policy=someone/photo-prior@v9")
    assert unknown.returncode == 2
    assert "policy=someone/photo-prior@v9: there is no such folder" in unknown.stderr


def test_a_published_policy_is_found_by_its_name(hub, tmp_path):
    published = run(hub, tmp_path, ROOT / "duvlm.py", "publish", SHIPPED, "someone/reader@first", "--private")
    assert published.returncode == 0, published.stderr
    assert "someone/reader" in hub.private
    assert hub.files("someone/reader") == {}  # it is on a branch of its own
    program = """
from benchmarks.quality.sources import policy
from configs import load
from envs.world import in_own_world, policy_folder
name = "someone/reader@first"
config = in_own_world(load("restore"), name)
for folder in (policy_folder(name, config.world), policy.find(name, config).folder):
    print(folder)
"""
    used = run(hub, tmp_path, "-c", program)
    assert used.returncode == 0, used.stderr
    (folder,) = set(used.stdout.split())
    assert (Path(folder) / "model.safetensors").read_bytes() == (SHIPPED / "model.safetensors").read_bytes()


def test_who_may_not_publish_is_told_in_one_sentence(hub, tmp_path, prior):
    refused = run(hub, tmp_path, ROOT / "duvlm.py", "publish", prior, "someone/else", token="hf_wrong")
    assert refused.returncode == 2
    assert "sign in with `hf auth login`" in refused.stderr
    assert ("models", "someone/else") not in hub.repositories


def test_what_is_damaged_or_no_folder_of_ours_is_not_sent(tmp_path, prior):
    with pytest.raises(UserError, match="expected a name on the Hub, OWNER/NAME, got 'prior'"):
        publish(prior, "prior")
    with pytest.raises(UserError, match="expected a policy, a prior or a corpus that duvlm wrote"):
        publish(tmp_path, "someone/prior")
    weights = prior / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged, see above: nothing was sent"):
        publish(prior, "someone/prior")


def test_the_card_of_a_policy_tells_what_it_began_with_and_what_was_measured(tmp_path):
    policy = tmp_path / "sft" / "policy"
    policy.mkdir(parents=True)
    shutil.copy(SHIPPED / "world.json", policy)
    (policy.parent / "config.yaml").write_text("job: sft\npolicy: Qwen/Qwen3-VL-8B-Instruct@main\n")
    measured = {"samples": 40, "split": "test", "corpus": "/data/du", "t_acc": 0.9, "j_acc": 0.8, "p_rel": 0.106}
    measured["restoration"] = {"all": {"after": {"psnr": 26.5}}}
    card = ModelCard(make_card(policy, "policy", "someone/reader", "apache-2.0", ["someone/du"], measured))
    assert card.data.base_model == "Qwen/Qwen3-VL-8B-Instruct"
    assert card.data.datasets == ["someone/du"]
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-text-to-text")
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"T-Acc": 0.9, "J-Acc": 0.8, "P-Rel": 0.106, "PSNR restored": 26.5}
    assert {(result.dataset_name, result.dataset_split) for result in card.data.eval_results} == {("du", "test")}
    assert "haze, low_light, blur, low_resolution" in card.content
    assert 'duvlm.Reader("someone/reader")' in card.content


@pytest.mark.parametrize("folder", [SHIPPED, PRIOR])
def test_the_cards_of_what_is_shipped_have_metadata(folder):
    data = ModelCard.load(folder / "README.md").data
    assert data.license == "apache-2.0"
    assert data.eval_results
