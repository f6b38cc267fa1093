"""What is told of an actor that died, in one line."""

from configs.cluster import supervision as deaths
from configs.cluster.supervision import describe_failure

DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: RewardActor\n\tactor_id: 35f7\n\tpid: 930\n"
    "\tip: 127.0.0.1\nThe actor is dead because its worker process has died. Worker exit detail: End of file. "
    "Some common causes include: (1) the process was killed by the OOM killer, (2) ..."
)


def test_a_death_is_told_in_one_line_with_the_end_of_the_actors_log(tmp_path, monkeypatch):
    monkeypatch.setattr(deaths, "logs", lambda: tmp_path)
    log = ":actor_name:RewardActor\nfirst\n\n" + "x\n" * 9 + "OOM: \n  3 GiB\n"
    (tmp_path / "worker-1f-01000000-930.err").write_text(log)
    (tmp_path / "worker-1f-01000000-931.err").write_text("another's\n")
    line = describe_failure(RuntimeError(DIED))
    why = "it is dead because its worker process has died. Worker exit detail: End of file"
    assert line == f"RewardActor (process 930) died: {why}. Its log ends: x | OOM: | 3 GiB"


def test_a_log_that_is_empty_or_on_another_node_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(deaths, "logs", lambda: tmp_path)
    assert describe_failure(RuntimeError(DIED)).endswith("Its log is not on this node")
    (tmp_path / "worker-1f-01000000-930.out").write_text(":job_id:01\n")
    assert "Its log is empty" in describe_failure(RuntimeError(DIED))


def test_an_error_of_the_actors_own_is_told_without_the_traceback_around_it():
    around = RuntimeError("ray::RolloutActor.generate() (pid=930)\n  File ...\nEngineLostError: gone")
    around.cause = RuntimeError("the engine\nis gone")
    assert describe_failure(around) == "the engine is gone"


def test_a_deadline_that_passed_without_a_word_is_a_hang():
    assert describe_failure(TimeoutError()) == "TimeoutError: no answer in time, it hangs"


def test_a_long_message_that_holds_a_cause_keeps_it():
    within = f"a learner rank failed. Cause: {'so it goes ' * 40}Its log ends: out of memory"
    assert describe_failure(RuntimeError(within)) == within
