"""Weights & Biases and MLflow: the real packages where they are installed (`pip install wandb mlflow-skinny`)."""

import sys

import pytest

from configs import UserError, load
from learner.logging.runlog import RunLog


def logged(folder, tracker, first=0, steps=2):
    config = load("sft", ["seed=3", f"trackers={tracker}"])
    with RunLog(folder, "sft", config, 4, first) as log:
        for step in range(first + 1, first + steps + 1):
            log.step(step, {"loss": step / 2, "gate": {"no_answer": 0.25}})


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_one_message(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"{name} is not installed here: `pip install {name}`"):
        logged(tmp_path / "sft", name)


def test_mlflow_has_settings_and_steps_and_a_resumed_run_goes_on_in_the_same(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logged(tmp_path / "sft", "mlflow")
    logged(tmp_path / "sft", "mlflow", first=2, steps=1)
    client = mlflow.MlflowClient((tmp_path / "sft" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("duvlm")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["seed"] == "3"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert run.data.metrics["gate/no_answer"] == 0.25


def test_wandb_keeps_a_run_offline_that_can_be_sent_later(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logged(tmp_path / "sft", "wandb")
    (file,) = (tmp_path / "sft" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"no_answer" in file.read_bytes()
