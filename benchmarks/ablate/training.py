"""How a cell is trained and evaluated: by the jobs `offline` and `sft`, with the settings of its variant."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from benchmarks.ablate.studies import Cell, Study, settings
from benchmarks.quality import output
from benchmarks.quality.analysis import posteriors
from benchmarks.quality.columns import Task
from benchmarks.quality.sources import policy as policies
from benchmarks.quality.sources.predictions import in_order, reasons
from configs.cluster import connect as cluster
from configs.files import read_json
from configs.run_folders import read_metrics, write_atomically
from configs.schema import Config, World
from envs.bootstrap import mean_interval
from envs.corpus.reader import read_card, read_samples
from envs.metrics import measure
from envs.world import world_taxonomy
from learner.logging.trace import read_spans

EVALUATED = "fast"
"""What restores by the answers of every cell, whatever restored for its reward."""
TIMED = 8
"""SFT steps from which it is told how many fit into a wall time."""


def run_cell(config: Config, study: Study, cell: Cell, out: Path, corpus: Path) -> None:
    """Trains the cell, goes on with its training, or finds it done; then evaluates it. config: the study's."""
    variant, folder = study.variant(cell.variant), cell.folder(out)
    mine = settings(config, variant)
    mine.corpus = str(regridded(corpus, mine.world, out / f"corpus-{mine.world.step_scale:g}"))
    if cell.seed is not None:
        _train(settings(mine, out=str(folder / "train"), seed=cell.seed), variant.training, cell, out)
        mine.policy = str(folder / "train" / "policy")
    evaluate(settings(mine, **{"reward.restorer": EVALUATED}), folder / "evaluate")


def evaluate(config: Config, folder: Path) -> None:
    """Evaluates config.policy on config.corpus: its answers, decoded greedily, and its restorations alone.

    Writes answers.jsonl, posteriors.jsonl and .npz, and summary.json last, in the formats of `duvlm run evaluate`,
    which also restores at the true parameters, by classical methods and for the bias table: the same in every cell.
    """
    from benchmarks.quality.restorations import restore_columns

    taxonomy = world_taxonomy(config.world)
    samples = read_samples(Path(config.corpus), config.split, taxonomy, config.limit)
    ids, truths, source = samples.sample_ids(), samples.degradations(), policies.find(config.policy, config)
    cluster.prepare(config, "evaluate")
    answers = in_order(policies.ask(config, source, samples, taxonomy), ids)
    degradations = [answer.reading.degradation for answer in answers]
    tasks = [Task("diffusion", degradation) if degradation else Task() for degradation in degradations]
    qualities = restore_columns(config, samples, {"after": tasks})
    folder.mkdir(parents=True, exist_ok=True)
    output.write_answers(folder, ids, truths, {"after": answers}, qualities)
    posteriors.write(folder, ids, truths, answers, taxonomy)
    measures = measure(truths, [answer.reading for answer in answers], taxonomy, seed=config.seed).as_dict()
    about = {
        "corpus": config.corpus,
        "split": config.split,
        "answers": config.policy,
        "invalid": reasons(answers),
        "psnr": list(mean_interval([quality.psnr for quality in qualities["after"]], seed=config.seed)),
        "decoding": posteriors.summarise(truths, answers, taxonomy, config.seed),
    }
    output.write_summary(folder, measures | about)


def trained_seconds(training: Path) -> float:
    """Sums the wall time of the optimiser steps of a training job: without start, checkpoints and validation."""
    lines = read_metrics(training / "metrics.jsonl")
    if lines and "step_seconds" in lines[0]:
        return sum(line["step_seconds"] for line in lines)
    return sum(_sft_seconds(training))


def regridded(corpus: Path, world: World, folder: Path) -> Path:
    """Returns the corpus as a world with another value grid reads it: the same pictures, values snapped to that grid.

    Itself where the grid is its own; otherwise FOLDER, links to its shards beside a card of the other world.
    """
    card = read_card(corpus)
    if card["world"]["step_scale"] == world.step_scale:
        return corpus
    folder.mkdir(parents=True, exist_ok=True)
    for shard in corpus.glob("*.parquet"):
        link = folder / shard.name
        link.unlink(missing_ok=True)
        link.symlink_to(shard.resolve())
    card["taxonomy"], card["world"]["step_scale"] = world_taxonomy(world).fingerprint(), world.step_scale
    write_atomically(folder / "corpus.json", json.dumps(card))
    return folder.resolve()


def _train(config: Config, training: str, cell: Cell, out: Path) -> None:
    from learner import sft
    from learner.rl import job as rl

    if training == "offline":
        config.rollout.decoding, config.rollout.grammar = "argmax", False  # those of the evaluation
        rl.run_offline(config)
        return
    if training == "continue":
        config.steps = _steps_within(trained_seconds(Cell("structured", cell.seed).folder(out) / "train"), config)
    else:
        config.policy = "random"
    sft.run(config)


def _steps_within(seconds: float, config: Config) -> int:
    """How many SFT steps take `seconds`, by the median of a few; measured once a cell and kept beside train/."""
    from learner import sft

    cell = Path(config.out).parent
    file = cell / "steps.json"
    if not (config.resume and file.is_file()):
        sft.run(settings(config, out=str(cell / "timing"), steps=TIMED))
        each = statistics.median(_sft_seconds(cell / "timing")[1:])  # the first makes its buffers
        timing = {"steps": max(1, round(seconds / each)), "seconds": seconds, "seconds_a_step": each}
        write_atomically(file, json.dumps(timing) + "\n")
    return read_json(file, ("steps",), "delete it, and it is measured again")["steps"]


def _sft_seconds(training: Path) -> list[float]:
    """Wall time of each step, from the trace of an SFT."""
    return [span.seconds for span in read_spans(training / "trace.json") if span.name == "sft step"]
