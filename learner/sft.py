"""The warm start: `duvlm run sft` teaches a policy the answers of a corpus by cross-entropy (Section 4.1)."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs import UserError, manifest, run_folder
from configs.cluster.connect import prepare
from configs.run_folders import continued
from configs.schema import Config
from envs.corpus.reader import read_card, read_samples
from envs.language.reading import read_text
from envs.metrics import measure
from envs.world import world_taxonomy
from learner.checks import check_learner
from learner.corpus import training_corpus
from learner.distributed import checkpoint
from learner.distributed.group import LearnerGroup
from learner.distributed.sampler import step_indices
from learner.logging.runlog import RunLog, finished
from learner.restart import run_with_restarts

VALIDATION_SAMPLES = 96
"""Samples of the validation split that are answered at each checkpoint, at most."""


def run(config: Config) -> None:
    """Trains config.policy on config.corpus (built from config.photos if empty) and writes the result to OUT/policy:
    the last policy, or with `learner.patience` the best of the validated ones.

    Run the same command again to continue from the newest checkpoint.

    Raises:
        UserError: settings contradict each other, or the corpus, policy or run folder does not fit them.
    """
    check_sft(config)
    out = run_folder(config, "sft")
    if config.steps and finished(out, config):
        return
    corpus = training_corpus(config, out, of_this_seed=True)
    if not config.steps:
        config = replace(config, steps=steps_of(config, read_card(corpus)["counts"]["train"]))
        if finished(out, config):
            return
    read_samples(corpus, "train", world_taxonomy(config.world), limit=1)  # the wrong corpus: said at once
    if config.learner.patience and not validation_count(config, corpus):
        raise UserError(
            f"learner.patience={config.learner.patience} needs validation: expected at least learner.ranks="
            f"{config.learner.ranks} samples in the val split of {corpus}; add photographs, or set learner.patience=0"
        )
    with continued(config, "sft"):
        prepare(config, "sft")
        if not config.resume:
            checkpoint.discard(out / "checkpoints", config.policy)
        run_with_restarts(config, lambda config: _start(config, out, corpus))


def _start(config: Config, out: Path, corpus: Path) -> None:
    from learner.policy.initial import initial_policy  # here: it imports transformers, as not every run must

    with closing(LearnerGroup(config, initial_policy(config, out), config.steps)) as learner:
        _train(config, out, corpus, learner)


def _train(config: Config, out: Path, corpus: Path, learner: LearnerGroup) -> None:
    learner.open_corpus(corpus, "train")
    done, scores, errors = _resume(config, learner, out)
    ids = read_samples(corpus, "train", world_taxonomy(config.world)).sample_ids()
    patience, last = config.learner.patience, done
    saver = checkpoint.Saver(out / "checkpoints")
    with RunLog(out, "sft", config, config.steps, done) as log, saver:
        for step in range(done, config.steps):
            if exhausted(errors, patience):
                break
            began = time.time()
            with _traced(config, step + 1, out, learner):
                metrics: dict[str, Any] = learner.sft_corpus_step(step)
            log.span("learner", "all ranks", "sft step", began, time.time() - began)
            indices = step_indices(step, config.learner.batch, len(ids), config.seed)
            metrics["sample_ids"] = [ids[index] for _, index in indices]
            keep = (step + 1) % config.learner.checkpoint_every == 0 or step + 1 == config.steps
            if keep:
                scores = validate(config, learner, corpus)
                metrics |= scores
                if patience:
                    errors.append(scores.get("val_p_rel", math.nan))
            log.step(step + 1, metrics)  # before the checkpoint: a resumed run drops what was logged after it
            if keep:
                draft = saver.begin(step + 1)
                learner.save(draft)
                if patience and best(errors) == len(errors) - 1:
                    _replace(out / "best", draft / "policy")
                saver.seal(draft, {"scores": scores, "errors": list(errors)})
            last = step + 1
        saver.wait()  # a policy stands for a whole run
        if patience:
            _replace(out / "policy", out / "best")
        else:
            learner.save_policy(out / "policy")
        summary = {"step": last, "steps": config.steps, "corpus": str(corpus), "policy": str(out / "policy")}
        log.summary({**summary, **scores})


@contextmanager
def _traced(config: Config, step: int, out: Path, learner: LearnerGroup) -> Iterator[None]:
    """Traces the ranks while they take a step, where that is wanted of it."""
    wanted = step in config.profile.steps and "learner" in config.profile.roles
    if wanted:
        learner.profile("")
    yield
    if wanted:
        learner.profile(str(out / "profile" / f"step-{step}"))


def check_sft(config: Config) -> None:
    """Raises UserError where the settings of `sft` contradict each other."""
    check_learner(config)
    if config.steps < 1 and not config.epochs:
        raise UserError("steps: expected at least 1 optimiser step, or epochs; set steps=3000 or so")
    if config.learner.batch % config.learner.ranks:
        raise UserError(
            f"learner.batch={config.learner.batch} does not divide over learner.ranks={config.learner.ranks}"
        )


def steps_of(config: Config, samples: int) -> int:
    """Counts the optimiser steps of `epochs` passes over so many training samples."""
    return max(1, math.ceil(config.epochs * samples / config.learner.batch))


def validate(config: Config, learner: LearnerGroup, corpus: Path) -> dict[str, float]:
    """Measures greedy answers to the first samples of the validation split, as the paper does.

    Ranks answer equally many; where there are fewer samples than ranks, or no such split, nothing is measured.
    """
    taxonomy, count = world_taxonomy(config.world), validation_count(config, corpus)
    if not count:
        return {}
    samples = read_samples(corpus, "val", taxonomy, limit=count)
    texts = learner.answers(corpus, "val", count, config.rollout.max_tokens)
    result = measure(samples.degradations(), [read_text(text, taxonomy) for text in texts], taxonomy, resamples=0)
    keys = {f"val_p_rel/{name}": scores["p_rel"] for name, scores in result.keys.items()}
    return {"val_t_acc": result.t_acc, "val_j_acc": result.j_acc, "val_p_rel": result.p_rel, **keys}


def validation_count(config: Config, corpus: Path) -> int:
    """Counts the samples that a validation answers: equally many on each rank."""
    available = read_card(corpus)["counts"].get("val", 0)
    return min(VALIDATION_SAMPLES, available) // config.learner.ranks * config.learner.ranks


def best(errors: Sequence[float]) -> int:
    """Finds the position of the smallest error, the earliest of equal ones; NaN (not measured) counts as infinite."""
    finite = [math.inf if math.isnan(error) else error for error in errors]
    return finite.index(min(finite))


def exhausted(errors: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` validations brought nothing better than the best before them; never for 0."""
    return 0 < patience < len(errors) and len(errors) - 1 - best(errors) >= patience


def _resume(config: Config, learner: LearnerGroup, out: Path) -> tuple[int, dict[str, float], list[float]]:
    """Loads the newest sound checkpoint, if there is one.

    Returns:
        The optimiser steps already made, the scores of the last validation, and with `learner.patience` P-Rel of all
        validations since it was set: the smallest is that of OUT/best.
    """
    newest = checkpoint.to_continue(out / "checkpoints", config.resume)
    if not newest:
        return 0, {}, []
    cursor, kept = checkpoint.cursor_of(newest), out / "best"
    scores, errors = cursor["scores"], cursor["errors"]
    if config.learner.patience and not (errors and kept.is_dir()):  # the run had no patience so far
        _replace(kept, newest / "policy")
        errors = [scores.get("val_p_rel", math.nan)]
    return learner.load(newest), scores, errors


def _replace(folder: Path, source: Path) -> None:
    """Makes `folder` a copy of the policy in `source`, which stays; the policy there goes when the copy is complete.

    What a person put beside either stays where it is.
    """
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    if (aside / manifest.NAME).is_file():
        for name in manifest.foreign(aside):
            (aside / name).unlink()
    manifest.write(aside, "policy")
    manifest.replace(folder, aside)
