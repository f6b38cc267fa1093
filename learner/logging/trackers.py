"""Weights & Biases and MLflow, imported only where `trackers=` asks for them. Both keep their files in the run's folder
unless their own environment variables (WANDB_MODE, MLFLOW_TRACKING_URI) name a server.

Neither can take a step back, and a resumed run does some steps again. So a tracker begins anew with what metrics.jsonl
still has, and what it had kept of the run before goes: every step is there once.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from configs import Config, UserError

PROJECT = "duvlm"
MLFLOW_BATCH = 1000
"""Numbers that MLflow takes in one call."""


class Tracker(Protocol):
    """Keeps the numbers of a run, and how it ended."""

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Keeps the numbers of one step."""

    def close(self, failed: bool) -> None:
        """Ends the run, as failed or finished."""


History = Sequence[tuple[int, Mapping[str, float]]]
"""(step, numbers) of the steps that were done before and stay."""


def open_trackers(folder: Path, job: str, config: Config, history: History = ()) -> list[Tracker]:
    """Opens those that `config.trackers` names, with the `history` of a run that is resumed in the same folder.

    Raises:
        UserError: the package is not installed, or its server does not answer.
    """
    kinds = {"wandb": WandB, "mlflow": MLflow}
    return [kinds[name](folder.resolve(), job, config, history) for name in config.trackers]


class WandB:
    """Writes one run of Weights & Biases; without WANDB_MODE it is kept offline, and `wandb sync` sends it.

    A server (WANDB_MODE=online) goes on with the run of this id and keeps the first numbers of steps done again.
    """

    def __init__(self, folder: Path, job: str, config: Config, history: History):
        wandb = _package("wandb")
        where = {"dir": str(folder), "mode": os.environ.get("WANDB_MODE", "offline")}
        offline = where["mode"] == "offline"
        if offline:
            for earlier in (folder / "wandb").glob(f"offline-run-*-{_id(folder)}"):
                shutil.rmtree(earlier)
        else:
            where["resume"] = "allow"
        try:
            self._run = wandb.init(project=PROJECT, name=_name(folder), id=_id(folder), config=asdict(config), **where)
        except wandb.Error as error:
            raise UserError(f"trackers: wandb could not begin: {error}; WANDB_MODE=offline needs no server") from error
        for step, numbers in history if offline else ():
            self.step(step, numbers)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MLflow:
    """Writes one run of MLflow; earlier ones of the folder are deleted as MLflow deletes: they can be restored."""

    def __init__(self, folder: Path, job: str, config: Config, history: History):
        mlflow = _package("mlflow")
        if not (store := os.environ.get("MLFLOW_TRACKING_URI")):
            store = (folder / "mlruns").as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files need no database; MLflow wants this said
        self._point = mlflow.entities.Metric
        try:
            self._client = mlflow.MlflowClient(store)
            self._run = self._open(folder, job, config, history)
        except mlflow.MlflowException as error:
            raise UserError(f"trackers: mlflow at {store} failed: {error}; see MLFLOW_TRACKING_URI") from error

    def _open(self, folder: Path, job: str, config: Config, history: History) -> str:
        known = self._client.get_experiment_by_name(PROJECT)
        experiment = known.experiment_id if known else self._client.create_experiment(PROJECT)
        tag = _id(folder)
        earlier = self._client.search_runs([experiment], f"tags.folder_id = '{tag}'")
        tags = {"folder_id": tag, "job": job, "folder": str(folder)}
        run = self._client.create_run(experiment, tags=tags, run_name=_name(folder)).info.run_id
        for key, value in _flat(asdict(config)):
            self._client.log_param(run, key, str(value)[:500])
        points = [point for step, numbers in history for point in self._points(step, numbers)]
        for start in range(0, len(points), MLFLOW_BATCH):
            self._client.log_batch(run, points[start : start + MLFLOW_BATCH])
        for each in earlier:  # last: until then its steps are nowhere else in MLflow
            self._client.delete_run(each.info.run_id)
        return run

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        self._client.log_batch(self._run, self._points(step, numbers))

    def _points(self, step: int, numbers: Mapping[str, float]) -> list:
        now = round(time.time() * 1000)
        return [self._point(name, value, now, step) for name, value in numbers.items()]

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _package(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"trackers: {name} is not installed here: `pip install {name}`, or leave it out") from error


def _name(folder: Path) -> str:
    return "/".join(folder.parts[-2:])


def _id(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _flat(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
