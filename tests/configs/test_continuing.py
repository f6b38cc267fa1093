"""What a run folder holds from a job's first second, and which jobs may go on in it."""

import pytest

from configs import UserError, load
from configs.run_folders import continued, lines_until, listing, locked, reopen
from learner.logging.runlog import finished


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


def test_damaged_lines_of_a_log_are_said_left_out_and_kept_aside(tmp_path, capsys):
    run(tmp_path)
    file = tmp_path / "metrics.jsonl"
    damaged = b'{"step": 1}\n{"st\xff\n[]\n{"step": 2}\n{"step": 3}\n{"ste'
    file.write_bytes(damaged)
    assert lines_until(file, 2) == '{"step": 1}\n{"step": 2}\n'
    assert f"{file}: 2 lines are damaged and left out (line 2, 3)" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged


def test_a_log_that_is_gone_is_said(tmp_path, capsys):
    assert lines_until(tmp_path / "metrics.jsonl", 7) == ""
    assert "metrics.jsonl is missing: the log begins at step 8" in capsys.readouterr().out


def test_without_its_log_a_run_still_does_not_go_on_with_another_policy(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(UserError, match="began with policy="):
        run(tmp_path / "run", f"policy={tmp_path}")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00", b'{"steps": null}'])
def test_a_damaged_summary_does_not_stop_a_run(tmp_path, capsys, content):
    (tmp_path / "summary.json").write_bytes(content)
    assert not finished(tmp_path, load("offline", ["steps=3"]))
    assert "goes on from its newest checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"# job: offline\n\xff\xfe: [", b"# job: offline\n- 1\n", b"\xff" * 64])
def test_damaged_settings_are_refused_by_resume_and_written_anew_by_run(tmp_path, capsys, content):
    folder = tmp_path / "offline"
    run(folder)
    (folder / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged .*: use `duvlm run offline out="):
        reopen(folder)
    assert f"{folder}  step 1 of an unknown number" in "\n".join(map("  ".join, listing(tmp_path.parent)))
    run(folder)
    assert "config.yaml is damaged" in capsys.readouterr().out
