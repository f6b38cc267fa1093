"""The front door: exit statuses and messages, through the real command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import duvlm
from configs import JOBS

ROOT = Path(__file__).parents[1]
BAD = [
    (["run", "offline", "reward.actor=3"], "did you mean 'reward.actors'?"),
    (["run", "offline", "reward.actors=0"], "expected 1 .. 4096, got 0"),
    (["run", "offline", "reward.restorer=magic"], "expected one of ddnm"),
    (["run", "offline", "steps=many"], "expected a whole number, got 'many'"),
    (["run", "ofline"], "did you mean 'offline'?"),
    (["run", "offline", "steps"], "expected key=value"),
    (["run", "offline", "track=giant"], "unknown track"),
    (["run", "restore", "degradation={blur}"], "degradation: expected JSON"),
    (["run", "offline", "--address", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
    (["submit", "offline", "reward.actors=0"], "expected 1 .. 4096"),
    (
        ["submit", "offline", "--address", "http://127.0.0.1:9"],
        "the Ray dashboard at http://127.0.0.1:9 failed",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_request_is_one_message_and_exit_2(arguments, message, capsys):
    assert duvlm.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("duvlm: ")
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "how", [[sys.executable, "duvlm.py"], [str(Path(sys.executable).parent / "duvlm")]], ids=["file", "entry"]
)
def test_both_doors_lead_to_the_same_command(how):
    done = subprocess.run(
        [*how, "run", "offline", "nonsense=1"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 2
    assert "unknown setting 'nonsense'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("job", JOBS)
def test_a_dry_run_prints_settings_and_plan_and_starts_nothing(job, capsys):
    assert duvlm.main(["run", job, "--dry-run", "seed=5"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["seed"] == 5
    assert f"# {job}: " in printed


def test_options_and_settings_come_in_any_order(capsys):
    assert duvlm.main(["run", "--dry-run", "offline", "seed=5"]) == 0
    assert duvlm.main(["run", "offline", "seed=5", "--dry-run", "steps=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out.split("\n# writes")[1].split("\n", 1)[1])["steps"] == 4


@pytest.mark.parametrize(
    "command", [[], ["run"], ["submit"], ["status"], ["logs"], ["stop"], ["scale"]], ids=" ".join
)
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        duvlm.main([*command, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_the_help_of_run_lists_every_setting(capsys):
    with pytest.raises(SystemExit):
        duvlm.main(["run", "--help"])
    printed = capsys.readouterr().out
    assert all(
        key in printed for key in ("world.views=[image,fft,edge]", "reward.restorer=fast", "photos=bundled")
    )


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["run", "offline", "--fast"], ["status", "seed=3"], []]
)
def test_a_wrong_command_line_exits_2(arguments):
    with pytest.raises(SystemExit) as ended:
        duvlm.main(arguments)
    assert ended.value.code == 2


def test_every_job_has_a_place():
    assert tuple(duvlm.JOBS) == JOBS


def test_an_interrupted_run_exits_130(tmp_path):
    command = [sys.executable, "duvlm.py", "run", "corpus", f"out={tmp_path}/c", "count=100000"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline().startswith("corpus: ")
    os.kill(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in said
