"""The warm start: `duvlm run sft` teaches a policy the answers of a corpus by cross-entropy (Section 4.1)."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from configs import UserError, run_folder
from configs.cluster import prepare
from configs.schema import Config
from envs import corpus as corpora
from envs.metrics import measure, read_text
from envs.policy_world import FILE, is_foreign, policy_folder, world_taxonomy
from learner import checkpoint
from learner.checks import check_learner
from learner.data import step_indices
from learner.lock import locked
from learner.persistence import persist
from learner.ranks import Learner
from learner.runlog import RunLog, finished

VALIDATION = 96  # samples answered at each checkpoint


def run(config: Config) -> None:
    """Trains config.policy on config.corpus (built from config.photos if empty); OUT/policy is the result: the last
    policy, or with `learner.patience` the best of the validated ones.

    Run the same command again to continue from the newest checkpoint.
    """
    _check(config)
    out = run_folder(config, "sft")
    if finished(out, config):
        return
    corpus = training_corpus(config, out)
    corpora.read_samples(corpus, "train", world_taxonomy(config.world), limit=1)  # the wrong corpus is told at once
    if config.learner.patience and not _validated(config, corpus):
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
    with closing(Learner(config, _initial_policy(config, out), config.steps)) as learner:
        _train(config, out, corpus, learner)


def _train(config: Config, out: Path, corpus: Path, learner: Learner) -> None:
    learner.open_corpus(corpus, "train")
    done, scores, errors = _resume(config, learner, out)
    ids = corpora.read_samples(corpus, "train", world_taxonomy(config.world)).sample_ids()
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


def best(errors: Sequence[float]) -> int:
    """Position of the smallest, the earliest of equal ones; one that could not be measured (NaN) counts as infinite."""
    finite = [math.inf if math.isnan(error) else error for error in errors]
    return finite.index(min(finite))


def exhausted(errors: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` validations brought nothing better than the best before them; never for 0."""
    return 0 < patience < len(errors) and len(errors) - 1 - best(errors) >= patience


def validate(config: Config, learner: Learner, corpus: Path) -> dict[str, float]:
    """Greedy answers to the first samples of the validation split, measured as the paper does.

    Ranks answer equally many; where there are fewer samples than ranks, nothing is measured.
    """
    taxonomy, count = world_taxonomy(config.world), _validated(config, corpus)
    samples = corpora.read_samples(corpus, "val", taxonomy)
    if not count:
        return {}
    texts = learner.answers(corpus, "val", count, config.rollout.max_tokens)
    found = measure(
        samples.degradations()[:count], [read_text(text, taxonomy) for text in texts], taxonomy, resamples=0
    )
    keys = {f"val_p_rel/{name}": scores["p_rel"] for name, scores in found.keys.items()}
    return {"val_t_acc": found.t_acc, "val_j_acc": found.j_acc, "val_p_rel": found.p_rel, **keys}


def _validated(config: Config, corpus: Path) -> int:
    """Samples that a validation answers."""
    samples = corpora.read_samples(corpus, "val", world_taxonomy(config.world))
    return min(VALIDATION, len(samples)) // config.learner.ranks * config.learner.ranks


def _check(config: Config) -> None:
    check_learner(config)
    if config.steps < 1:
        raise UserError("steps: expected at least 1 optimiser step; set steps=3000 or so")
    if config.learner.batch % config.learner.ranks:
        raise UserError(
            f"learner.batch={config.learner.batch} does not divide over learner.ranks={config.learner.ranks}"
        )


def training_corpus(config: Config, out: Path) -> Path:
    """config.corpus, or one built from config.photos into OUT/corpus the first time."""
    if config.corpus:
        return Path(config.corpus).resolve()
    folder = (out / "corpus").resolve()
    if not (folder / "corpus.json").is_file():
        settings = copy.copy(config)
        settings.out = str(folder)
        with locked(out):
            corpora.run(settings)
    return folder


def _initial_policy(config: Config, out: Path) -> Path:
    if config.policy == "random":
        from learner.tiny_policy import build_tiny_policy

        return build_tiny_policy(
            out / "initial", world_taxonomy(config.world), config.world.size, config.seed
        ).resolve()
    if is_foreign(Path(config.policy)):
        from learner.adoption import adopt

        adopted = out / "initial"  # made once: what continues a run starts from the same
        return (adopted if (adopted / FILE).is_file() else adopt(Path(config.policy), adopted, config.world)).resolve()
    return policy_folder(config.policy, config.world)


def _resume(config: Config, learner: Learner, out: Path) -> tuple[int, dict[str, float], list[float]]:
    """Loads the newest sound checkpoint, if there is one; optimiser steps already made, scores of the last validation,
    and P-Rel of all."""
    found = checkpoint.to_continue(out / "checkpoints", config.resume)
    if not found:
        return 0, {}, []
    cursor = checkpoint.cursor_of(found)
    return learner.load(found), cursor["scores"], cursor["errors"]


def _replace(folder: Path, source: Path) -> None:
    """Makes `folder` a copy of `source`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
