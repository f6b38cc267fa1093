"""The front door: exit statuses and messages, through the real command line."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import duvlm
from configs import UserError, config_to_yaml, load
from configs import run_folders as runs
from configs.help import EXAMPLES, runnable
from configs.jobs import jobs
from configs.settings import settings

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
    (["run", "offline", "--address", "127.0.0.1:9", "--dry-run"], "no Ray cluster answers at 127.0.0.1:9"),
    (["run", "offline", "out=/dev/null/here"], "cannot write to /dev/null/here: /dev/null is a file"),
    (["run", "offline", "out=/dev/shm/none/" + "n" * 300], "File name too long; use out="),
    (["run", "offline", "name=" + "n" * 300], "File name too long; use out="),
    (["run", "sft", "corpus=/nowhere"], "/nowhere"),
    (["run", "offline", "policy=/nowhere", "corpus=/nowhere"], "/nowhere"),
    (["run", "corpus", "photos=/nowhere"], "/nowhere"),
    (["run", "restore", "image=/nowhere"], "/nowhere"),
    (["run", "evaluate", "corpus=/nowhere"], "/nowhere"),
    (["resume", "/nowhere"], "expected the folder of a run"),
    (["scale", "rewards", "4:2"], "expected N or MIN:MAX"),
    (["scale", "rewards", "4", "--address", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
    (["status", "--address", "http://127.0.0.1:9"], "the Ray dashboard at http://127.0.0.1:9 failed"),
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


def test_a_folder_that_may_not_be_looked_into_is_one_message(monkeypatch):
    def exists(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", exists)  # root, who may run this, may look into every folder
    with pytest.raises(UserError, match="cannot write to /root/there: Permission denied; use out="):
        runs.check_writable(Path("/root/there"))


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


@pytest.mark.parametrize("job", [job.name for job in runnable()])
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
    "command", [[] if words == "duvlm" else [words] for words in EXAMPLES], ids=" ".join
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
        key in printed for key in ("world.views=[image,fft,edge,log]", "reward.restorer=fast", "photos=bundled")
    )


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["run", "offline", "--fast"], ["status", "seed=3"], []]
)
def test_a_wrong_command_line_exits_2(arguments):
    with pytest.raises(SystemExit) as ended:
        duvlm.main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("job", jobs().values(), ids=lambda job: job.name)
def test_every_job_names_an_entry_point_that_is_there_and_settings_that_exist(job):
    module, _, function = job.entry.partition(":")
    source = Path(ROOT, *module.split(".")).with_suffix(".py").read_text()
    assert re.search(rf"^def {function}\(", source, re.MULTILINE)
    keys = {key for setting in settings() for key in (setting, setting.partition(".")[0])}
    assert set(job.reads) <= keys


def test_the_help_of_a_job_lists_the_settings_it_reads(capsys):
    with pytest.raises(SystemExit):
        duvlm.main(["run", "review", "--help"])
    printed = capsys.readouterr().out
    assert "  limit=0  (0 .. 100000000)" in printed
    assert "grpo" not in printed


def test_the_driver_of_a_training_job_imports_no_model_library():
    """Seconds before Ray is even started; its actors import them side by side."""
    code = (
        "import sys, learner.rl.job, learner.sft\n"
        "print([m for m in ('transformers', 'vllm', 'deepspeed', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_interrupted_run_exits_130(tmp_path):
    command = [sys.executable, "duvlm.py", "run", "corpus", f"out={tmp_path}/c", "count=100000"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline().startswith("corpus: ")
    os.kill(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in said


def test_a_run_is_resumed_as_it_was_set_and_further_if_asked(tmp_path, capsys):
    folder = tmp_path / "first" / "anything"
    folder.mkdir(parents=True)
    config = load("offline", ["steps=7", "reward.actors=3", "world.views=[image]", "learner.lr=1e-5", "resume=false"])
    (folder / "config.yaml").write_text(config_to_yaml(config, "offline"))
    assert duvlm.main(["resume", str(folder), "steps=9", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    found = yaml.safe_load(printed)
    assert (found["steps"], found["reward"]["actors"], found["world"]["views"]) == (9, 3, ["image"])
    assert (found["learner"]["lr"], found["resume"], found["out"]) == (1e-5, True, str(folder))
    assert "# offline: " in printed


def test_a_folder_that_does_not_say_what_ran_there_is_not_resumed(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    assert duvlm.main(["resume", str(tmp_path)]) == 2
    assert f"use `duvlm run JOB out={tmp_path}`" in capsys.readouterr().err


def test_status_says_how_far_each_run_is_and_which_processes_there_are(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for job in ("sft", "offline", "online"):
        folder = tmp_path / "runs" / "first" / job
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config_to_yaml(load(job, ["steps=60"]), job))
    (folder.parent / "sft" / "summary.json").write_text("{}")
    (folder.parent / "offline" / "metrics.jsonl").write_text('{"step": 4}\n{"step": 5}\n{"st')
    idle = [sys.executable, "-c", "import sys; sys.stdin.read()", "x"]
    with subprocess.Popen(["ray::RewardActor.score", *idle[1:]], executable=idle[0], stdin=subprocess.PIPE) as actor:
        assert duvlm.main(["status"]) == 0
        actor.stdin.close()
    lines = capsys.readouterr().out.splitlines()
    found = ["runs/first/offline  step 5 of 60", "runs/first/online  not finished", "runs/first/sft  finished"]
    assert lines[:3] == found
    assert f"{actor.pid}  RewardActor" in lines


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("duvlm r", {"run ", "resume "}),
        ("duvlm run off", {"offline "}),
        ("duvlm run offline track=", {"track=tiny", "track=qwen3vl_8b"}),
        ("duvlm run offline learner.ra", {"learner.ranks="}),
        ("duvlm run offline seed=1 reward.restorer=ddnm", {"reward.restorer=ddnm", "reward.restorer=ddnm_plus"}),
        ("duvlm run offline --dr", {"--dry-run "}),
        ("duvlm scale ", {"rewards "}),
    ],
)
def test_bash_completes(line, expected):
    """A real bash, with what `duvlm completion bash` prints; words are broken at `=` as readline does."""
    script = f"""PATH={Path(sys.executable).parent}:$PATH
source <(duvlm completion bash)
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_WORDBREAKS=' '
_python_argcomplete duvlm
printf '%s\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    found = set(done.stdout.splitlines())
    assert {word.rstrip() for word in found} >= {word.rstrip() for word in expected}, done.stderr
    assert len(found) <= len(expected) + 4


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_their_completion_too(shell, capsys):
    assert duvlm.main(["completion", shell]) == 0
    assert "duvlm" in capsys.readouterr().out


def test_bench_is_the_benchmarks_command(capsys):
    with pytest.raises(SystemExit) as ended:
        duvlm.main(["bench", "nothing-of-this-name"])
    assert ended.value.code == 2
    assert "python -m benchmarks" in capsys.readouterr().err
