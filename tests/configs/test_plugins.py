"""Scores and restorers of other packages: an installed package registers them, and they are used by their names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import UserError, plugins
from reward_actors.restoration.presets import restorer

ROOT = Path(__file__).parents[2]
CODE = """
from reward_actors.restoration.presets import Restorer

def darkness(pictures):
    return 1 - pictures.mean((1, 2, 3))

def error(pictures, truths):
    return (pictures - truths).square().mean((1, 2, 3))

error.needs_truth, error.higher_is_better = True, False
PATIENT = Restorer("patient", steps=20, first=600, warm=True)
"""
POINTS = """[duvlm.scorers]
darkness = mine:darkness
own_error = mine:error
broken = mine:nothing

[duvlm.restorers]
patient = mine:PATIENT
"""
PROGRAM = """
import numpy as np
import duvlm
from configs import UserError, load
from envs.types import Sample
from reward_actors.restoration.presets import restorer
from reward_actors.scoring import scorer

white, grey = np.full((32, 32, 3), 255, np.uint8), np.full((32, 32, 3), 51, np.uint8)
print(round(duvlm.score(grey, "darkness"), 3))
spec = ["darkness:2", "own_error:1"]
reward, parts = scorer.score(spec, grey.astype(np.float32) / 255, Sample("a", "a", "test", grey, white), None)
print(round(reward, 3), round(parts["own_error"], 3))
chosen = load("offline", ["reward.restorer=patient", "reward.scorer=[darkness]"]).reward
print(chosen.restorer, restorer("patient").calls)
print(scorer.fingerprint(spec))
try:
    duvlm.score(grey, "broken")
except UserError as failure:
    print(failure)
"""


def printed(package: Path) -> list[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{package}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def installed(folder: Path, version: str) -> Path:
    known = folder / f"mine-{version}.dist-info"
    known.mkdir(parents=True)
    (folder / "mine.py").write_text(CODE)
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mine\nVersion: {version}\n")
    (known / "entry_points.txt").write_text(POINTS)
    return folder


def test_what_a_package_registers_is_a_metric_a_term_and_a_setting_and_its_version_counts(tmp_path):
    score, reward, chosen, fingerprint, failure = printed(installed(tmp_path / "first", "1.0"))
    assert score == "0.8"
    assert reward == "0.96 0.64"  # twice the darkness of .8, less the squared error
    assert chosen == "patient 20"
    assert failure.startswith("broken: mine:nothing, which a package registers in duvlm.scorers, fails")
    assert printed(installed(tmp_path / "second", "2.0"))[3] != fingerprint


def test_a_name_that_nobody_registers_is_found_nowhere():
    assert plugins.find(plugins.SCORERS, "nobody") is None
    assert plugins.version(plugins.SCORERS, "nobody") == ""
    with pytest.raises(UserError, match="expected one of ddnm"):
        restorer("nobody")
