"""The script of `make setup`, on stand-ins for Python and pip: what it does where the other kind of torch is."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "configs/install/install.sh"
STAND_IN = """#!/bin/bash
# A Python that makes environments with copies of itself, pretends to install torch, and checks what it has installed.
here="$(dirname "$0")"
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo made >> log ;;
"-m pip") case "$*" in *torch==*+cpu*) echo cpu > "$here/torch" ;; *cuda*) echo "$INDEX" > "$here/torch" ;; esac ;;
"-c import importlib"*) cat "$here/torch" 2>/dev/null || exit 1 ;;
"- "*) printf 'class version:\\n    cuda = %s\\n__version__ = "x"\\n' \\
    "$([ "$(cat "$here/torch")" = cuda ] && echo '"13.0"' || echo None)" > torch.py
    PYTHONPATH=. REAL "$@" ;;
esac
"""


@pytest.fixture
def setup(tmp_path):
    python = tmp_path / "python"
    python.write_text(STAND_IN.replace("REAL", sys.executable))
    python.chmod(0o755)

    def setup(extra, index="cuda"):
        environment = os.environ | {"PYTHON": str(python), "INDEX": index}
        command = ["bash", str(SCRIPT), extra]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return setup


def test_an_environment_of_the_other_kind_is_made_anew(setup, tmp_path):
    """It ended with the torch of CPUs beside the vLLM of GPUs, silently: both wheels bear one version."""
    assert setup("cpu").returncode == setup("cpu").returncode == 0
    assert (tmp_path / "log").read_text() == "made\n"
    done = setup("cuda")
    assert done.returncode == 0, done.stderr
    assert "made anew for EXTRA=cuda" in done.stdout
    assert (tmp_path / "log").read_text() == "made\nmade\n"


def test_the_wrong_torch_in_the_end_is_an_error(setup):
    done = setup("cuda", index="cpu")
    assert done.returncode == 1
    assert "expected the torch of EXTRA=cuda, got x (CUDA None)" in done.stderr


def test_where_wheels_of_both_kinds_are_offered_gpus_get_theirs():
    """pip takes 2.13.0+cpu for newer than 2.13.0."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, chosen in {"cuda": "2.13.0", "cpu": "2.13.0+cpu"}.items():
        wanted = next(each for each in map(Requirement, extras[extra]) if each.name == "torch").specifier
        assert list(wanted.filter(["2.13.0", "2.13.0+cpu"])) == [chosen]
