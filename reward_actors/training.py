"""The loop of the small trainings of this package (the prior, `rank_iqa`): logged, saved, and continued when killed."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from configs.files import damaged, write_atomically
from configs.run_folders import lines_until

LOG_STEPS = 50


class Trainer(Protocol):
    """Holds a training under way.

    step: optimiser steps taken; steps: those to take.
    """

    step: int
    steps: int

    def train(self, batch: Any) -> float:
        """Takes one step; returns its loss."""
        ...

    def state_dict(self) -> dict:
        """Returns all that the training needs to continue."""
        ...


def train_to_end(
    trainer: Trainer,
    batch: Callable[[int], Any],
    checkpoint: Path,
    name: str,
    save_steps: int,
    on_save: Callable[[], None] = lambda: None,
) -> None:
    """Trains until `trainer.steps`.

    Args:
        batch: step -> what is trained on in it.
        checkpoint: a file, replaced at once every `save_steps` steps and at the end; metrics.jsonl lies beside it.
        name: of what is trained, for the progress that is printed.
        on_save: called after each checkpoint.
    """
    metrics = checkpoint.with_name("metrics.jsonl")
    first, started, losses = trainer.step, time.monotonic(), []
    write_atomically(metrics, lines_until(metrics, first))
    with metrics.open("a") as log:
        while trainer.step < trainer.steps:
            losses.append(trainer.train(batch(trainer.step)))
            if trainer.step % LOG_STEPS == 0:
                loss = sum(losses) / len(losses)
                losses.clear()
                speed = (trainer.step - first) / (time.monotonic() - started)
                log.write(json.dumps({"step": trainer.step, "loss": loss, "steps_per_second": speed}) + "\n")
                log.flush()
                left = (trainer.steps - trainer.step) / speed / 60
                print(f"{name}: step {trainer.step}/{trainer.steps}, loss {loss:.4f}, {left:.0f} min left", flush=True)
            if trainer.step % save_steps == 0 or trainer.step == trainer.steps:
                save_checkpoint(checkpoint, trainer.state_dict())
                on_save()


def save_checkpoint(file: Path, state: dict) -> None:
    """Replaces a checkpoint in one step: a kill leaves the old one or the new one."""
    aside = file.with_suffix(".new")
    torch.save(state, aside)
    os.replace(aside, file)


def load_checkpoint(file: Path) -> dict | None:
    """Reads a checkpoint of tensors and plain values; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not file.is_file():
        return None
    try:
        return torch.load(file, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise damaged(file, error, "copy it here again, or begin anew with resume=false") from None
