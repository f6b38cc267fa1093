"""A training job that breaks goes on by itself, as often as it may."""

import pytest

from configs import UserError, load
from learner.distributed.group import LearnerError
from learner.restart import run_with_restarts


def work_that_fails(times, error):
    """Work that notes the settings of each try and raises in the first `times`."""

    def work(config):
        work.tries.append(config)
        if len(work.tries) <= times:
            raise error

    work.tries = []
    return work


def test_a_job_that_broke_resumes_from_what_it_saved(capsys):
    work = work_that_fails(2, LearnerError("a rank\ndied"))
    run_with_restarts(load("sft", ["max_failures=2", "resume=false", "steps=7"]), work)
    assert [config.resume for config in work.tries] == [False, True, True]
    assert {config.steps for config in work.tries} == {7}
    assert "(2 left): a rank died" in capsys.readouterr().out


def test_it_gives_up_after_max_failures():
    work = work_that_fails(9, LearnerError("a rank died"))
    with pytest.raises(LearnerError):
        run_with_restarts(load("sft", ["max_failures=3"]), work)
    assert len(work.tries) == 4


@pytest.mark.parametrize("error", [UserError("wrong"), KeyboardInterrupt(), OSError("disk full")])
def test_what_a_new_start_cannot_cure_is_not_tried_again(error):
    work = work_that_fails(1, error)
    with pytest.raises(type(error)):
        run_with_restarts(load("sft", ["max_failures=3"]), work)
    assert len(work.tries) == 1


NO_ROOM = "No space left on device"


@pytest.mark.parametrize("error", [OSError(28, NO_ROOM, "metrics.jsonl"), LearnerError(f"I/O error: {NO_ROOM}")])
def test_a_full_disk_is_said_and_not_tried_again(error):
    work = work_that_fails(1, error)
    with pytest.raises(UserError, match=f"{NO_ROOM}: the checkpoints written before are whole; make room"):
        run_with_restarts(load("sft", ["max_failures=3"]), work)
    assert len(work.tries) == 1
