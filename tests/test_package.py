"""The wheel: complete, and at work outside the checkout, in an environment that has nothing else of the project."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen
from zipfile import ZipFile

import pytest

import duvlm
from configs.cluster import submission

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "envs/bundled/china.jpg"
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder of programs of a fresh environment: the wheel, and the libraries of this environment beside it.

    A `.pth` file names them: what is editable in this environment is not reached by it.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def run(programs, folder, *words):
    return subprocess.run([programs / words[0], *words[1:]], cwd=folder, env=environment(), **CAPTURED)


def environment():
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


CAPTURED = {"capture_output": True, "text": True, "timeout": 300}


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel):
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *BUILD["only-include"]]
    files = subprocess.run(listed, cwd=ROOT, **CAPTURED)
    if files.returncode:
        pytest.skip("no git, or no clone of it")
    moved = BUILD["force-include"]
    expected = {moved.get(name, name) for name in files.stdout.splitlines() if (ROOT / name).exists()}
    assert {"service/web/page.html", "learner/weights/policy/chat_template.jinja", "envs/bundled/china.jpg"} < expected
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected


def test_what_a_cluster_is_sent_is_in_the_wheel():
    assert set(BUILD["only-include"]) == set(submission.SENT)


def test_an_installation_is_all_in_its_own_environment_and_sends_nothing_else_of_it(programs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, duvlm, torchvision\n"
        "from configs.cluster import submission\n"
        "with submission.own_modules() as folder:\n"
        "    print(json.dumps([duvlm.__file__, [path.name for path in folder.iterdir()]]))\n"
    )
    done = run(programs, tmp_path, "python", str(script))
    assert done.returncode == 0, done.stderr
    file, sent = json.loads(done.stdout)
    assert Path(file).is_relative_to(programs.parent)
    assert set(sent) == set(submission.SENT)
    assert len(list(Path(file).parent.iterdir())) > len(sent)


def test_an_installation_says_its_version_and_plans_a_job(programs, wheel, tmp_path):
    assert run(programs, tmp_path, "duvlm", "--version").stdout == f"duvlm {duvlm.__version__}\n"
    assert wheel.name.startswith(f"duvlm-{duvlm.__version__}-")
    done = run(programs, tmp_path, "duvlm", "run", "offline", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "# offline: 1 x rollout engine" in done.stdout


@pytest.mark.engine
def test_an_installation_restores_a_photograph_and_builds_a_corpus(programs, tmp_path):
    restored = run(programs, tmp_path, "duvlm", "run", "restore", f"image={PHOTO}", "out=restored")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert json.loads((tmp_path / "restored/china.json").read_text())["action"]
    built = run(programs, tmp_path, "duvlm", "run", "corpus", "count=6", "size=32", "out=corpus")
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "corpus/README.md").exists()


@pytest.mark.engine
def test_an_installation_serves(programs, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log, address, end = (tmp_path / "log").open("w+"), f"http://127.0.0.1:{port}", time.monotonic() + 240
    command = [programs / "duvlm", "serve", "--port", str(port), "reward.actors=1"]
    service = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log, start_new_session=True)
    try:
        while not said(f"{address}/api/health").get("ready"):
            assert service.poll() is None and time.monotonic() < end, log.seek(0) or log.read()  # noqa: PT018
            time.sleep(0.5)
        assert said(f"{address}/api/read", PHOTO.read_bytes())["text"]
        assert b"<html" in urlopen(address, timeout=60).read()
    finally:
        service.send_signal(signal.SIGINT)
        assert service.wait(timeout=60) == 130


def said(url: str, body: bytes | None = None) -> dict:
    """What a service answers; nothing while it starts."""
    try:
        return json.load(urlopen(Request(url, data=body), timeout=150))
    except (URLError, OSError):
        return {}
