"""Weights & Biases and MLflow: the real packages where they are installed (`pip install wandb mlflow-skinny`)."""

import struct
import sys

import pytest

from configs import UserError, load
from learner.logging.runlog import RunLog


def logged(folder, tracker, first=0, steps=2, seed=3, scale=0.5):
    config = load("sft", [f"seed={seed}", f"trackers={tracker}"])
    with RunLog(folder, "sft", config, 4, first) as log:
        for step in range(first + 1, first + steps + 1):
            log.step(step, {"loss": step * scale, "gate": {"no_answer": 0.25}})
    if tracker == "wandb":
        sys.modules["wandb"].teardown()  # at the end of a process, W&B's own writes the rest of the file


def wandb_history(file):
    """[(step, loss)] of an offline run, as its file has them: a log of protobuf records in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, place, record, rows = file.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole of a record, or its last part
            entry = wandb_internal_pb2.Record.FromString(record)
            record = b""
            items = {item.key or "/".join(item.nested_key): item.value_json for item in entry.history.item}
            if "loss" in items:
                rows.append((int(items["_step"]), float(items["loss"])))
    return rows


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_one_message(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"{name} is not installed here: `pip install {name}`"):
        logged(tmp_path / "sft", name)


def test_mlflow_has_the_settings_and_every_step_once_when_a_resumed_run_does_some_again(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logged(tmp_path / "sft", "mlflow", steps=3, seed=2)
    logged(tmp_path / "sft", "mlflow", first=1, steps=2, scale=2.0)
    client = mlflow.MlflowClient((tmp_path / "sft" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("duvlm")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["seed"] == "3"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 4.0), (3, 6.0)]
    assert run.data.metrics["gate/no_answer"] == 0.25


def test_wandb_has_every_step_once_offline_when_a_resumed_run_does_some_again(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logged(tmp_path / "sft", "wandb", steps=3)
    logged(tmp_path / "sft", "wandb", first=1, steps=2, scale=2.0)
    (file,) = (tmp_path / "sft" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"no_answer" in file.read_bytes()
    assert wandb_history(file) == [(1, 0.5), (2, 4.0), (3, 6.0)]


def test_a_run_that_begins_anew_leaves_nothing_of_the_one_before(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logged(tmp_path / "sft", "wandb", steps=3)
    logged(tmp_path / "sft", "wandb", steps=1, scale=2.0)
    (file,) = (tmp_path / "sft" / "wandb").glob("offline-run-*/run-*.wandb")
    assert wandb_history(file) == [(1, 2.0)]
