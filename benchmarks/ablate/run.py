"""`duvlm run ablate study=NAME`: Table 4, Table 5 or Figure 7 of the paper, drawn again cell by cell.

A cell is one training of one variant with one seed, and its evaluation: what is finished is not done again, what was
interrupted goes on, and the tables are written anew after each.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ablate import report, results, studies
from benchmarks.ablate.studies import Cell, Study
from benchmarks.ablate.training import run_cell, trained_seconds
from benchmarks.quality.checks import check_prior
from benchmarks.quality.evaluate import check_size
from configs import UserError, config_to_yaml, run_folder
from configs.cluster import connect as cluster
from configs.files import read_yaml
from configs.run_folders import locked, write_atomically
from configs.schema import Config
from envs.corpus.reader import check_corpus, read_samples
from envs.world import world_taxonomy

FREE = ("seed", "resume", "name", "out", "max_failures", "trackers")
"""Settings that may differ when a study is gone on with; cells of other seeds are added to it."""


def run(config: Config) -> None:
    """Trains and evaluates every cell of config.study on config.corpus (built from config.photos if empty).

    Raises:
        UserError: no such study, no steps, no prior, or OUT holds one with other settings.
    """
    study = studies.STUDIES.get(config.study)
    if study is None:
        raise UserError(f"study: expected one of {', '.join(studies.STUDIES)}; for example `study=table5`")
    if config.steps < 1:
        raise UserError("steps: expected at least 1 optimiser step for each training")
    out = run_folder(config, "ablate").resolve()
    wanted = studies.cells(study, range(config.seed, config.seed + studies.SEEDS))
    check_prior(config.reward.prior)  # before the trainings, which some studies do without it
    _check_same(out, config)
    corpus = _corpus(config, out)
    with locked(out):
        if not config.resume:
            _discard(study, out)  # before config.yaml names the settings of those to come
        write_atomically(out / "config.yaml", config_to_yaml(config, "ablate"))
        left = [cell for cell in wanted if not is_finished(cell, out)]
        if left:
            cluster.prepare(config, "ablate")  # one cluster for all cells
        for number, cell in enumerate(left, 1):
            print(f"{study.name}: {cell.folder(out).relative_to(out)}, {number} of {len(left)} to do", flush=True)
            run_cell(config, study, cell, out, corpus)
            collect(config, study, out, corpus)
        print(report.markdown(study, collect(config, study, out, corpus)))
        print(f"{out / 'summary.json'}, table.csv, table.md, plot.png")


def is_finished(cell: Cell, out: Path) -> bool:
    """Tells whether a cell is trained and evaluated."""
    return (cell.folder(out) / "evaluate" / "summary.json").is_file()


def collect(config: Config, study: Study, out: Path, corpus: Path) -> dict:
    """Writes the tables of all finished cells in OUT, of whatever seed; returns what is in summary.json."""
    samples = read_samples(corpus, config.split, world_taxonomy(config.world), config.limit)
    truths, terms = samples.degradations(), {}
    for cell in filter(lambda cell: is_finished(cell, out), _begun(study, out)):
        taxonomy = world_taxonomy(studies.settings(config, study.variant(cell.variant)).world)
        terms[cell] = results.read_terms(cell.folder(out) / "evaluate", truths, taxonomy)
    about = {
        "corpus": str(corpus),
        "split": config.split,
        "samples": len(truths),
        "steps": config.steps,
        "decoding": config.rollout.decoding,
    }
    seconds = {cell: trained_seconds(cell.folder(out) / "train") if cell.seed is not None else 0.0 for cell in terms}
    summary = results.summarise(study, terms, seconds, about, config.seed)
    report.write(out, study, summary)
    return summary


def _begun(study: Study, out: Path) -> Iterator[Cell]:
    """The cells that may have a folder in OUT, by variant and seed."""
    for variant in study.variants:
        folders = (out / variant.name).glob("seed-*")
        seeds = [None] if variant.training == "none" else sorted(int(f.name.removeprefix("seed-")) for f in folders)
        yield from (Cell(variant.name, seed) for seed in seeds)


def _discard(study: Study, out: Path) -> None:
    """Moves all cells into OUT/discarded-TIME, trained policies and what a person put beside them included."""
    aside = out / time.strftime("discarded-%Y%m%d-%H%M%S")
    folders = [out / variant.name for variant in study.variants if (out / variant.name).exists()]
    for folder in folders:
        aside.mkdir(exist_ok=True)
        folder.rename(aside / folder.name)
    if folders:
        print(f"{study.name}: the cells of before lie in {aside}", flush=True)


def _corpus(config: Config, out: Path) -> Path:
    if not config.corpus:
        from learner.corpus import training_corpus

        return training_corpus(config, out)
    check_size(config)
    check_corpus(Path(config.corpus))
    return Path(config.corpus).resolve()


def _check_same(out: Path, config: Config) -> None:
    """Cells of one table are trained alike."""
    file = out / "config.yaml"
    if not config.resume or not file.is_file():
        return
    there, here = read_yaml(file, cure="resume=false trains anew"), dataclasses.asdict(config)
    other = [name for name in here if name not in FREE and there.get(name) != here[name]]
    if other:
        raise UserError(
            f"{out} holds a study with other settings ({', '.join(other)}): repeat them (they are in its config.yaml), "
            "write elsewhere with out=, or set resume=false to train anew"
        )
