"""`duvlm run compare scores=DIR,DIR,...`: evaluations of the same samples in one table, beside the paper's rows.

It joins Table 1 (with what needs no network), Figures 4, 8 and 9, and the differences in pairs of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from benchmarks.quality import output
from benchmarks.quality.report import comparison
from benchmarks.quality.sources.evaluations import Evaluation, read_evaluations
from benchmarks.quality.sources.predictions import Answered
from benchmarks.quality.summary import mean_by_type, readings, understanding, zero_prediction
from configs import UserError, run_folder
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.corpus.reader import read_samples
from envs.language.reading import read_degradation
from envs.metrics import differences
from envs.taxonomy import Taxonomy
from envs.world import world_taxonomy

NO_NETWORK = "no network, type told"
"""The row of statistics and spectral evidence, where the corpus is there to fit and measure them."""


def run(config: Config) -> None:
    """Joins the evaluations in the folders of `scores`.

    Writes summary.json, tables/, figures/ and report.html; prints the tables.

    Raises:
        UserError: no evaluations, or of different samples.
    """
    taxonomy = world_taxonomy(config.world)
    evaluations = read_evaluations(config.scores, taxonomy)
    columns: dict[str, Sequence] = {each.name: each.answers for each in evaluations}
    if config.corpus:
        columns[NO_NETWORK] = _without_network(config, evaluations[0], taxonomy)
    folder = run_folder(config, "compare")
    summary = summarise(evaluations, columns, taxonomy, config.seed)
    comparison.write(folder, summary)
    output.write_summary(folder, summary)
    comparison.show(summary)
    print(f"{folder / 'summary.json'}; {folder / 'report.html'}")


def summarise(
    evaluations: Sequence[Evaluation], columns: dict[str, Sequence[Answered]], taxonomy: Taxonomy, seed: int
) -> dict:
    """Computes the content of summary.json.

    Args:
        columns: {name: an answer a sample}: those of the evaluations, and more.

    Returns:
        {"samples", "zero_prediction", "columns": {name: as the fields of one policy in an evaluation's summary},
        "differences": {"B - A": {measure: [difference, low, high]}} ("psnr" too, where both restored),
        "restoration": {type, or "all": {name: {"psnr", "psnr_interval", "samples"}}}}.
    """
    truths = evaluations[0].truths
    restored = {each.name: each.psnr for each in evaluations if None not in each.psnr}
    apart = {}
    for one, other in combinations(columns, 2):
        gains = differences(truths, readings(columns[one]), readings(columns[other]), taxonomy, seed=seed)
        if one in restored and other in restored:
            pairs = zip(restored[other], restored[one], strict=True)
            gains["psnr"] = mean_interval([b - a for b, a in pairs], seed=seed)
        apart[f"{other} - {one}"] = {name: list(gain) for name, gain in gains.items()}
    return {
        "samples": len(truths),
        "evaluations": {
            each.name: {name: each.summary.get(name) for name in ("answers", "corpus", "split")} for each in evaluations
        },
        "zero_prediction": zero_prediction(truths, taxonomy),
        "columns": {name: understanding(truths, column, taxonomy, seed) for name, column in columns.items()},
        "differences": apart,
        "restoration": mean_by_type({name: {"psnr": column} for name, column in restored.items()}, truths),
    }


def _without_network(config: Config, evaluation: Evaluation, taxonomy: Taxonomy) -> list[Answered]:
    from benchmarks.quality.analysis.no_network import read_without_network

    samples = read_samples(Path(config.corpus), config.split, taxonomy)
    places = {sample_id: number for number, sample_id in enumerate(samples.sample_ids())}
    if missing := [name for name in evaluation.sample_ids if name not in places]:
        raise UserError(f"corpus={config.corpus}: its {config.split} split has no sample {missing[0]}, which was read")
    chosen = [samples[places[name]] for name in evaluation.sample_ids]
    answers = read_without_network(read_samples(Path(config.corpus), "train", taxonomy), chosen, taxonomy)
    return [Answered(answer.as_dict(), read_degradation(answer)) for answer in answers]
