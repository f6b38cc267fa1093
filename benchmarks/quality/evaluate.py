"""`duvlm run evaluate`: the answers of a policy, or of anyone, on photos it never saw (Section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.quality import output
from benchmarks.quality.analysis import bias, posteriors
from benchmarks.quality.checks import check_prior
from benchmarks.quality.columns import columns_of, first_of_each
from benchmarks.quality.foreign import check_given
from benchmarks.quality.measures import Quality
from benchmarks.quality.report import tables
from benchmarks.quality.report.report import write_report
from benchmarks.quality.sources import policy as policies
from benchmarks.quality.sources import predictions
from benchmarks.quality.sources.evaluations import named_folders
from benchmarks.quality.summary import Answers, summarise
from configs import UserError, run_folder
from configs.load import changed
from configs.schema import Config
from envs.corpus.reader import CorpusSplit, check_corpus, read_card, read_samples
from envs.taxonomy import Degradation, Taxonomy
from envs.world import world_taxonomy


def run(config: Config) -> None:
    """Measures the answers of policy=, or of a model at endpoint= (beside those of before=), on one split of corpus=,
    or what they make of photographs without truth, photos=FOLDER.

    Writes summary.json, answers.jsonl, pictures/, figures/, tables/ and a report; prints the tables last.

    Raises:
        UserError: no corpus, no policy, no prior, or a file of answers that cannot be read.
    """
    if config.photos != Config.photos:
        _photographs(config)
        return
    if not config.corpus:
        raise UserError("corpus: expected the folder of a corpus; `duvlm run corpus out=FOLDER` builds one")
    check_corpus(Path(config.corpus))
    if config.endpoint or config.policy.endswith(".jsonl"):  # whoever answers there sees what the corpus has
        config = changed(config, {"world.size": read_card(Path(config.corpus))["size"]})
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(Path(config.corpus), config.split, taxonomy, config.limit)
    folder, usage, qualities, biases = run_folder(config, "evaluate"), {}, {}, []
    foreign = named_folders(config.restored, "restored")
    if config.nuisances and (config.endpoint or config.policy.endswith(".jsonl")):
        raise UserError("nuisances=true: expected a policy= folder, which is asked again; got answers that are given")
    restoring = foreign or not config.policy.endswith(".jsonl")
    if restoring:
        check_prior(config.reward.prior)
        check_size(config)
        check_given(foreign, samples.sample_ids(), config.world.size)
    if config.policy.endswith(".jsonl"):
        answers = _predictions(config, samples, taxonomy)
    elif config.endpoint:
        answers, usage = _endpoint(config, samples, taxonomy, folder)
    else:
        answers = _policies(config, samples, taxonomy)
    if restoring:
        qualities, biases = _restorations(config, samples, answers, taxonomy, foreign)
    summary = summarise(config, samples.degradations(), answers, qualities, biases, taxonomy)
    if usage:
        summary["endpoint"] = usage
    if config.nuisances:
        summary["nuisances"] = _nuisances(config, samples, taxonomy)
    output.write(folder, summary, samples, answers, qualities, taxonomy)
    report = write_report(folder if config.out else folder.parent)
    tables.show(summary)
    posteriors.show(summary["decoding"])
    print(f"{folder / 'summary.json'}; pictures and curves in {report}")


def _photographs(config: Config) -> None:
    from benchmarks.quality import photographs

    if config.corpus or config.endpoint or config.policy.endswith(".jsonl"):
        raise UserError("photos: expected a policy= folder beside it, and no corpus=, endpoint= or file of answers")
    check_prior(config.reward.prior)
    photographs.evaluate(config, run_folder(config, "evaluate"))


def check_size(config: Config) -> None:
    """Raises UserError where the pictures of a corpus are not as large as the policy's world."""
    size = read_card(Path(config.corpus))["size"]
    if size != config.world.size:
        raise UserError(f"the corpus has images of {size} px, the policy sees {config.world.size}: set world.size")


def _predictions(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> Answers:
    every = read_samples(Path(config.corpus), config.split, taxonomy).sample_ids()
    answers = predictions.read_predictions(Path(config.policy), every, taxonomy)
    if config.restored:
        from configs.cluster.connect import prepare

        prepare(config, "evaluate")
    return {"after": predictions.in_order(answers, samples.sample_ids())}


def _endpoint(config: Config, samples: CorpusSplit, taxonomy: Taxonomy, folder: Path) -> tuple[Answers, dict]:
    from benchmarks.quality.sources import endpoint
    from configs.cluster.connect import prepare

    answers, usage = endpoint.ask(config, samples, taxonomy, folder)
    prepare(config, "evaluate")  # needed from here on: answers cost money, a cluster that is full does not
    return {"after": predictions.in_order(answers, samples.sample_ids())}, usage


def _policies(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> Answers:
    from configs.cluster.connect import prepare

    folders = {"before": config.before, "after": config.policy} if config.before else {"after": config.policy}
    settings = {"before": "before", "after": "policy"}
    sources = {name: policies.find(folder, config, settings[name]) for name, folder in folders.items()}
    prepare(config, "evaluate")
    answers = {
        source: policies.ask(config, source, samples, taxonomy) for source in dict.fromkeys(sources.values())
    }
    return {name: predictions.in_order(answers[source], samples.sample_ids()) for name, source in sources.items()}


def _restorations(
    config: Config, samples: CorpusSplit, answers: Answers, taxonomy: Taxonomy, foreign: Mapping[str, Path]
) -> tuple[dict[str, list[Quality]], list[dict]]:
    """(the columns of Tables 2 and 3, the rows of the bias table): the latter from a few samples of each type."""
    from benchmarks.quality.restorations import restore

    truths = samples.degradations()
    columns = columns_of(truths, {name: _degradations(column) for name, column in answers.items()}, foreign)
    few = first_of_each(truths, bias.per_type(len(truths), len({truth.type for truth in truths})))
    moved = bias.tasks(truths, sorted(few), taxonomy)
    wanted = [pair for column in columns.values() for pair in enumerate(column)]
    made = restore(config, samples, [*wanted, *moved.values()], foreign)
    qualities = {name: [made[pair] for pair in enumerate(column)] for name, column in columns.items()}
    return qualities, bias.rows({place: made[pair] for place, pair in moved.items()})


def _nuisances(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> dict:
    """The table of nuisances, of the policy that is measured."""
    from benchmarks.quality.analysis.nuisances import measure_rows
    from benchmarks.quality.restorations import restore

    source = policies.find(config.policy, config)

    def ask(every):
        answers = policies.ask(config, source, every, taxonomy)
        return [answers[sample.sample_id].reading for sample in every]

    return measure_rows(list(samples), taxonomy, ask, lambda every, wanted: restore(config, every, wanted))


def _degradations(column) -> list[Degradation | None]:
    return [answer.reading.degradation for answer in column]
