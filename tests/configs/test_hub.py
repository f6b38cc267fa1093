"""Models by their name on the Hugging Face Hub: from its cache, from the Hub, or one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import UserError
from configs.hub import model_folder

PROGRAM = """
from configs import UserError
from configs.hub import model_folder
try:
    print(model_folder("someone/depth-small", "model"))
except UserError as error:
    print(error)
"""


def test_a_folder_is_a_folder_and_other_text_is_left_alone(tmp_path):
    assert model_folder(str(tmp_path), "model") == tmp_path
    assert model_folder("shipped", "policy") == Path("shipped")
    assert model_folder("/nowhere/at/all", "policy") == Path("/nowhere/at/all")


def test_a_model_in_the_cache_needs_no_network(tmp_path):
    repository = tmp_path / "models--someone--depth-small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(repository / "snapshots" / ("0" * 40))


def test_without_a_network_one_sentence_says_so(tmp_path):
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_OFFLINE", None)
    found = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("model=someone/depth-small: there is no such folder")
    assert found.stdout.count("\n") == 1
    assert "name a folder" in found.stdout


def test_a_model_that_is_not_there_is_the_users_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="reward.prior=someone/no-such-model"):
        model_folder("someone/no-such-model", "reward.prior")
