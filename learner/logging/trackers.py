"""Weights & Biases and MLflow, imported only where `trackers=` asks for them. Both keep their files in the run's folder
unless their own environment variables (WANDB_MODE, MLFLOW_TRACKING_URI) name a server."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from configs import Config, UserError

PROJECT = "duvlm"


class Tracker(Protocol):
    """Keeps the numbers of a run, and how it ended."""

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Keeps the numbers of one step."""

    def close(self, failed: bool) -> None:
        """Ends the run, as failed or finished."""


def open_trackers(folder: Path, job: str, config: Config) -> list[Tracker]:
    """Opens those that `config.trackers` names; a run that is resumed in the same folder goes on in the same place.

    Raises:
        UserError: the package is not installed, or its server does not answer.
    """
    return [{"wandb": WandB, "mlflow": MLflow}[name](folder.resolve(), job, config) for name in config.trackers]


class WandB:
    """Writes one run of Weights & Biases; without WANDB_MODE it is kept offline, and `wandb sync` sends it."""

    def __init__(self, folder: Path, job: str, config: Config):
        wandb = _package("wandb")
        where = {"dir": str(folder), "mode": os.environ.get("WANDB_MODE", "offline")}
        try:
            self._run = wandb.init(
                project=PROJECT, name=_name(folder), id=_id(folder), resume="allow", config=asdict(config), **where
            )
        except wandb.Error as error:
            raise UserError(f"trackers: wandb could not begin: {error}; WANDB_MODE=offline needs no server") from error

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MLflow:
    """Writes one run of MLflow, found again by its folder."""

    def __init__(self, folder: Path, job: str, config: Config):
        mlflow = _package("mlflow")
        if not (store := os.environ.get("MLFLOW_TRACKING_URI")):
            store = (folder / "mlruns").as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files need no database; MLflow wants this said
        self._point = mlflow.entities.Metric
        try:
            self._client = mlflow.MlflowClient(store)
            self._run = self._open(folder, job, config)
        except mlflow.MlflowException as error:
            raise UserError(f"trackers: mlflow at {store} failed: {error}; see MLFLOW_TRACKING_URI") from error

    def _open(self, folder: Path, job: str, config: Config) -> str:
        known = self._client.get_experiment_by_name(PROJECT)
        experiment = known.experiment_id if known else self._client.create_experiment(PROJECT)
        tag = _id(folder)
        runs = self._client.search_runs([experiment], f"tags.folder_id = '{tag}'", max_results=1)
        if runs:
            return runs[0].info.run_id
        tags = {"folder_id": tag, "job": job, "folder": str(folder)}
        run = self._client.create_run(experiment, tags=tags, run_name=_name(folder)).info.run_id
        for key, value in _flat(asdict(config)):
            self._client.log_param(run, key, str(value)[:500])
        return run

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        now = round(time.time() * 1000)
        self._client.log_batch(self._run, [self._point(name, value, now, step) for name, value in numbers.items()])

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
