"""What a run folder holds from a job's first second, and which jobs may go on in it."""

import pytest

from configs import UserError, load
from configs.run_folders import continued, locked, reopen


def run(folder, *settings, job="offline"):
    with continued(load(job, [f"out={folder}", *settings]), job):
        (folder / "metrics.jsonl").open("a").write('{"step": 1}\n')


def test_a_job_that_is_only_starting_can_be_resumed(tmp_path):
    config = load("offline", [f"out={tmp_path}", "seed=7"])
    with continued(config, "offline"):
        assert reopen(tmp_path) == ("offline", config)


def test_two_jobs_do_not_work_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match="in use by another job"):
        run(tmp_path)


@pytest.mark.parametrize("key", ["policy", "corpus"])
def test_a_run_does_not_go_on_with_another_policy_or_corpus(tmp_path, key):
    run(tmp_path / "run")
    there = reopen(tmp_path / "run")[1]
    with pytest.raises(UserError, match=rf"{key}={tmp_path}: the run in .* began with {key}={getattr(there, key)}; .*"):
        run(tmp_path / "run", f"{key}={tmp_path}")
    run(tmp_path / "run", f"{key}={tmp_path}", "resume=false")
    run(tmp_path / "run", f"{key}={tmp_path}/../{tmp_path.name}")  # the same folder by another name


def test_a_policy_that_was_moved_is_taken_at_its_word(tmp_path):
    run(tmp_path / "run", f"corpus={tmp_path}/gone")
    run(tmp_path / "run", f"corpus={tmp_path}")


def test_a_run_that_had_not_begun_may_take_another_policy(tmp_path):
    with continued(load("sft", [f"out={tmp_path}"]), "sft"):
        pass
    run(tmp_path, "policy=random", job="sft")
    assert reopen(tmp_path)[1].policy == "random"


def test_more_steps_say_what_becomes_of_the_learning_rate(tmp_path, capsys):
    run(tmp_path, "steps=10")
    run(tmp_path, "steps=20")
    assert "follows the schedule of 20 steps" in capsys.readouterr().out
