"""What docs/ tells people to deploy: manifests that Kubernetes takes, jobs and settings that exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs import UserError, load
from configs.cluster.resources import plan
from configs.jobs import jobs
from learner.checks import check_rl

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MANIFESTS = sorted((DOCS / "deploy").glob("*.yaml"))


def pods(tree, path=""):
    """(where, pod template) of everything in a manifest that holds containers."""
    if isinstance(tree, dict):
        if "containers" in tree.get("spec", {}):
            yield path, tree
        for key, value in tree.items():
            yield from pods(value, f"{path}.{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from pods(value, f"{path}[{index}]")


def documents():
    return [(file.name, document) for file in MANIFESTS for document in yaml.safe_load_all(file.read_text())]


@pytest.mark.parametrize(("name", "manifest"), documents(), ids=lambda value: value if isinstance(value, str) else "")
def test_pod_templates_pass_the_schema_of_kubernetes(name, manifest):
    validate = pytest.importorskip("kubernetes_validate")
    found = list(pods(manifest["spec"]))
    assert found
    for path, template in found:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": template["spec"]}
        try:
            validate.validate(pod, validate.latest_version(), strict=True)
        except validate.ValidationError as error:
            pytest.fail(f"{name}{path}: {error}")
        broken = {**pod, "spec": {**pod["spec"], "containers": [{"nmae": "a"}]}}
        with pytest.raises(validate.ValidationError):
            validate.validate(broken, validate.latest_version(), strict=True)


@pytest.mark.parametrize(("name", "manifest"), documents(), ids=lambda value: value if isinstance(value, str) else "")
def test_clusters_ask_for_a_token_and_name_the_ray_that_is_installed(name, manifest):
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    assert (manifest["apiVersion"], spec["authOptions"]["mode"]) == ("ray.io/v1", "token")
    assert f'"ray[default,data,serve]=={spec["rayVersion"]}"' in (ROOT / "pyproject.toml").read_text()


def commands():
    """Every `duvlm run|submit JOB ...` in the documentation and in what it deploys."""
    files = [ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "deploy").glob("*.yaml"), ROOT / "Makefile"]
    for file in files:
        text = re.sub(r"\\\n\s*", " ", file.read_text())
        if file.suffix == ".yaml":
            text = "\n".join(document["spec"].get("entrypoint", "") for document in yaml.safe_load_all(text))
        for found in re.findall(r"^\s*(?:RAY_AUTH_MODE=token )?duvlm (?:run|submit) ([^`\n]*)", text, re.MULTILINE):
            yield file.name, found.partition("  #")[0]


@pytest.mark.parametrize(("file", "command"), list(commands()))
def test_every_command_in_the_documentation_names_a_job_and_settings_that_exist(file, command):
    words = [word for word in shlex.split(command) if word != "..."]
    if words[0] == "--help" or words[0].isupper():
        return
    assert words[0] in jobs()
    settings = [word for word in words[1:] if "=" in word]
    try:
        load(words[0], settings)
    except UserError as error:
        pytest.fail(f"{file}: duvlm run {command}: {error}")


def test_the_slurm_script_is_a_shell_script_and_needs_nothing_that_is_not_there():
    script = DOCS / "deploy" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o111


def test_the_slurm_script_ends_where_the_head_of_its_cluster_does_not_start(tmp_path):
    """With commands of Slurm's names, of which `srun ... ray start` fails."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    commands = {"scontrol": "echo node", "srun": 'case "$*" in *hostname*) echo 127.0.0.1;; *) exit 7;; esac'}
    for name, line in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "node", "SLURM_JOB_NUM_NODES": "1", "RAY_PORT": "9"}
    slurm |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_GPUS_PER_NODE": "1"}
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", str(DOCS / "deploy" / "slurm.sh"), "offline"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**slurm, "PATH": path}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert done.stderr.startswith("slurm.sh: no Ray head answers at 127.0.0.1:9 on node")
    assert list((tmp_path / "runs").iterdir()) == []  # nor is the token left


@pytest.mark.parametrize(
    ("installed", "target", "installs"),
    [
        ("", ["setup"], "cpu"),
        ("cpu", ["setup"], ""),
        ("cpu", ["setup", "EXTRA=cuda"], "cuda"),
        ("cuda", ["test"], ""),
        ("cuda", ["setup", "EXTRA=cpu"], "cpu"),
    ],
)
def test_make_installs_what_is_asked_for_unless_it_is_there(tmp_path, installed, target, installs):
    (tmp_path / "configs" / "install").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").touch()
    for file in (ROOT / "configs/install").glob("*.*"):
        (tmp_path / "configs/install" / file.name).touch()
    if installed:
        (tmp_path / ".venv" / f".ready-{installed}").touch()
    made = ["make", "-n", "-f", str(ROOT / "Makefile"), *target]
    environment = {"PATH": os.environ["PATH"]}  # without the flags of a make that runs these tests
    said = subprocess.run(made, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"install\.sh (\w+)", said) == [installs] * bool(installs)


def test_pre_commit_refuses_what_is_too_large_for_the_repository(tmp_path):
    commit = [str(Path(sys.executable).parent / "pre-commit"), "run"]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".pre-commit-config.yaml").write_text((ROOT / ".pre-commit-config.yaml").read_text())
    for size, refused in [(900_000, False), (1_100_000, True)]:
        (tmp_path / "photo.png").write_bytes(bytes(size))
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        done = subprocess.run(commit, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert bool(done.returncode) is refused, done.stdout
        assert ("got photo.png" in done.stdout) is refused


def test_the_container_copies_and_runs_what_exists():
    lines = re.sub(r"\\\n", " ", (DOCS / "deploy" / "Dockerfile").read_text()).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert steps[0] == ["FROM", "python:3.11-slim-bookworm"]
    assert {word for word, _ in steps} <= {"FROM", "ARG", "RUN", "USER", "WORKDIR", "COPY", "ENV", "CMD"}
    (install,) = [text for word, text in steps if word == "RUN" and "install.sh" in text]
    assert (ROOT / re.search(r"\S+/install\.sh", install).group()).exists()
    assert [text for word, text in steps if word == "USER"] == ["ray"]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_in_the_documentation_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(("heading", "gpus"), [("One GPU", 1), ("Sixty-four GPUs", 64)])
def test_the_commands_of_the_page_on_sizing_take_the_gpus_they_are_written_for(heading, gpus):
    page = (DOCS / "sizing.md").read_text()
    block = page[page.index(f"## {heading}") :].split("```")[1]
    _, _, job, *settings = shlex.split(block.replace("\\\n", " "))
    settings = [word for word in settings if "=" in word]
    config = load(job, settings)
    check_rl(config, job)
    assert plan(config, job).gpus == pytest.approx(gpus)
