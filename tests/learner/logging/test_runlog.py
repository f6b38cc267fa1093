"""What a run leaves behind can be read at any moment, and a resumed run continues it."""

import json

import pytest

from configs import load
from configs.run_folders import read_metrics, write_atomically
from learner.logging import trace
from learner.logging.runlog import RunLog


@pytest.fixture
def run(tmp_path):
    def open_log(total=10, resumed=0):
        return RunLog(tmp_path / "sft", "sft", load("sft", ["seed=3"]), total, resumed)

    open_log.folder = tmp_path / "sft"
    return open_log


def steps(folder):
    return [line["step"] for line in read_metrics(folder / "metrics.jsonl")]


def test_every_step_is_on_disk_as_soon_as_it_is_logged(run):
    with run() as log:
        log.step(1, {"loss": 0.5, "gate": {"no_answer": 3}, "bad": float("nan")})
        (line,) = read_metrics(run.folder / "metrics.jsonl")
    assert line == {"step": 1, "loss": 0.5, "gate": {"no_answer": 3}, "bad": None}


def test_a_resumed_run_drops_what_came_after_its_checkpoint(run):
    with run() as log:
        for step in range(1, 6):
            log.step(step, {"loss": 1.0})
    with run(resumed=3) as log:
        log.step(4, {"loss": 2.0})
    assert steps(run.folder) == [1, 2, 3, 4]
    assert read_metrics(run.folder / "metrics.jsonl")[-1]["loss"] == 2.0


def test_a_new_run_in_an_old_folder_starts_empty(run):
    with run() as log:
        log.step(1, {"loss": 1.0})
        log.span("reward", "0", "restore", 1.0, 0.5)
        log.summary({"ok": True})
    with run():
        pass
    assert steps(run.folder) == []
    assert json.loads((run.folder / "trace.json").read_text()) == []
    assert not (run.folder / "summary.json").exists()


def test_a_line_cut_short_by_a_kill_is_left_out(run):
    with run() as log:
        log.step(1, {"loss": 1.0})
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    with run(resumed=2) as log:
        log.step(3, {"loss": 1.0})
    assert steps(run.folder) == [1, 3]


def test_the_trace_is_valid_json_with_named_processes_and_survives_a_kill(run):
    file = run.folder / "trace.json"
    with run() as log:
        log.span("reward", "actor 0", "restore", 100.0, 0.25)
        log.span("reward", "actor 1", "restore", 100.1, 0.25)
        killed = file.read_text()
    events = json.loads(file.read_text())
    assert [e["args"]["name"] for e in events if e["ph"] == "M"] == ["reward"]
    ends = [(e["ts"], e["id"], e["cat"]) for e in events if e["ph"] in ("b", "e")]
    assert ends == [
        (100_000_000, 1, "actor 0"),
        (100_250_000, 1, "actor 0"),
        (100_100_000, 2, "actor 1"),
        (100_350_000, 2, "actor 1"),
    ]
    file.write_text(killed + ',\n{"name": "half')
    assert len(trace.read_spans(file)) == 2
    with run(resumed=1) as log:
        log.span("rollout", "actor 0", "sample", 101.0, 1.0)
    json.loads(file.read_text())
    assert trace.read_spans(file) == [
        trace.Span("reward", "actor 0", "restore", 100.0, 0.25),
        trace.Span("reward", "actor 1", "restore", 100.1, 0.25),
        trace.Span("rollout", "actor 0", "sample", 101.0, 1.0),
    ]


def test_the_trace_of_an_earlier_version_is_read_and_continued(run):
    run.folder.mkdir()
    old = {"name": "step 1", "ph": "X", "pid": 1, "tid": 2, "args": {"who": ["learner", "ranks"]}, "ts": 5, "dur": 7}
    (run.folder / "trace.json").write_text(f"[\n{json.dumps(old)}\n]\n")
    with run(resumed=1):
        pass
    assert trace.read_spans(run.folder / "trace.json") == [trace.Span("learner", "ranks", "step 1", 5e-6, 7e-6)]


def test_settings_summary_and_tensorboard_lie_beside(run):
    with run() as log:
        log.step(1, {"loss": 1.0})
        log.summary({"steps": 1, "nan": float("inf")})
    assert "seed: 3" in (run.folder / "config.yaml").read_text()
    assert json.loads((run.folder / "summary.json").read_text()) == {"steps": 1, "nan": None}
    assert list((run.folder / "tensorboard").glob("events.*"))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "summary.json"
    write_atomically(file, "old")
    with pytest.raises(TypeError):
        write_atomically(file, 3)
    assert file.read_text() == "old"
