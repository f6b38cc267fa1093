"""The warm start: `duvlm run sft` teaches a policy the answers of a corpus by cross-entropy (Section 4.1)."""

from __future__ import annotations

import math
import shutil
import time
from contextlib import closing
from pathlib import Path

from configs import UserError, run_folder
from configs.cluster.connect import prepare
from configs.run_folders import locked
from configs.schema import Config
from envs.corpus.reader import read_samples
from envs.world import world_taxonomy
from learner.checks import check_learner
from learner.distributed import checkpoint
from learner.distributed.group import Learner
from learner.distributed.sampler import step_indices
from learner.logging.runlog import RunLog, finished
from learner.restart import persist
from learner.sources import initial_policy, training_corpus
from learner.validation import best, exhausted, validate, validated


def run(config: Config) -> None:
    """Trains config.policy on config.corpus (built from config.photos if empty); OUT/policy is the result: the last
    policy, or with `learner.patience` the best of the validated ones.

    Run the same command again to continue from the newest checkpoint.
    """
    _check(config)
    out = run_folder(config, "sft")
    if finished(out, config):
        return
    corpus = training_corpus(config, out, of_this_seed=True)
    read_samples(corpus, "train", world_taxonomy(config.world), limit=1)  # the wrong corpus is told at once
    if config.learner.patience and not validated(config, corpus):
        raise UserError(
            f"learner.patience={config.learner.patience} needs validation: expected at least learner.ranks="
            f"{config.learner.ranks} samples in the val split of {corpus}; add photographs, or set learner.patience=0"
        )
    with locked(out):
        prepare(config, "sft")
        if not config.resume:
            checkpoint.discard(out / "checkpoints", config.policy)
        persist(config, lambda config: _start(config, out, corpus))


def _start(config: Config, out: Path, corpus: Path) -> None:
    with closing(Learner(config, initial_policy(config, out), config.steps)) as learner:
        _train(config, out, corpus, learner)


def _train(config: Config, out: Path, corpus: Path, learner: Learner) -> None:
    learner.open_corpus(corpus, "train")
    done, scores, errors = _resume(config, learner, out)
    ids = read_samples(corpus, "train", world_taxonomy(config.world)).sample_ids()
    patience, last = config.learner.patience, done
    with RunLog(out, "sft", config, config.steps, done) as log:
        for step in range(done, config.steps):
            if exhausted(errors, patience):
                break
            began = time.time()
            metrics = learner.sft_corpus_step(step)
            log.span("learner", "all ranks", "sft step", began, time.time() - began)
            shown = step_indices(step, config.learner.batch, len(ids), config.seed)
            metrics["sample_ids"] = [ids[index] for _, index in shown]
            keep = (step + 1) % config.learner.checkpoint_every == 0 or step + 1 == config.steps
            if keep:
                scores = validate(config, learner, corpus)
                metrics |= scores
                if patience:
                    errors.append(scores.get("val_p_rel", math.nan))
            log.step(step + 1, metrics)  # before the checkpoint: a resumed run drops what was logged after it
            if keep:
                draft = checkpoint.begin(out / "checkpoints", step + 1)
                learner.save(draft)
                if patience and best(errors) == len(errors) - 1:
                    _replace(out / "best", draft / "policy")
                checkpoint.finish(draft, cursor={"scores": scores, "errors": errors})
            last = step + 1
        if patience:
            _replace(out / "policy", out / "best")
        else:
            learner.save_policy(out / "policy")
        told = {"step": last, "steps": config.steps, "corpus": str(corpus), "policy": str(out / "policy")}
        log.summary({**told, **scores})


def _check(config: Config) -> None:
    check_learner(config)
    if config.steps < 1:
        raise UserError("steps: expected at least 1 optimiser step; set steps=3000 or so")
    if config.learner.batch % config.learner.ranks:
        raise UserError(
            f"learner.batch={config.learner.batch} does not divide over learner.ranks={config.learner.ranks}"
        )


def _resume(config: Config, learner: Learner, out: Path) -> tuple[int, dict[str, float], list[float]]:
    """Loads the newest sound checkpoint, if there is one; optimiser steps already made, scores of the last validation,
    and with `learner.patience` P-Rel of all since it was set: the smallest is that of OUT/best."""
    found = checkpoint.to_continue(out / "checkpoints", config.resume)
    if not found:
        return 0, {}, []
    cursor, kept = checkpoint.cursor_of(found), out / "best"
    scores, errors = cursor["scores"], cursor["errors"]
    if config.learner.patience and not (errors and kept.is_dir()):  # the run had no patience so far
        _replace(kept, found / "policy")
        errors = [scores.get("val_p_rel", math.nan)]
    return learner.load(found), scores, errors


def _replace(folder: Path, source: Path) -> None:
    """Makes `folder` a copy of `source`, which stays; what is there goes when the copy is complete."""
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
