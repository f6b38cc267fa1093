"""`duvlm run evaluate`: the answers of a policy, or of anyone, on photos it never saw (Section 5)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality import output
from benchmarks.quality.analysis import posteriors
from benchmarks.quality.checks import check_prior
from benchmarks.quality.report import tables
from benchmarks.quality.report.report import write_report
from benchmarks.quality.sources import policy as policies
from benchmarks.quality.sources import predictions as given
from benchmarks.quality.summary import Answers, summarise
from configs import UserError, run_folder
from configs.schema import Config
from envs.corpus.reader import CorpusSplit, read_card, read_samples
from envs.taxonomy import Taxonomy
from envs.world import world_taxonomy


def run(config: Config) -> None:
    """Measures the answers of policy=, or of a model at endpoint= (beside those of before=), on one split of corpus=.

    Writes summary.json, answers.jsonl, pictures/, figures/, tables/ and a report; prints the tables last.

    Raises:
        UserError: no corpus, no policy, no prior, or a file of answers that cannot be read.
    """
    if not config.corpus:
        raise UserError("corpus: expected the folder of a corpus; `duvlm run corpus out=FOLDER` builds one")
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(Path(config.corpus), config.split, taxonomy, config.limit)
    folder, usage = run_folder(config, "evaluate"), {}
    if config.policy.endswith(".jsonl"):
        answers = _predictions(config, samples, taxonomy)
        qualities, biased = {}, []
    else:
        check_prior(config.reward.prior)
        if config.endpoint:
            answers, usage = _endpoint(config, samples, taxonomy, folder)
        else:
            answers = _policies(config, samples, taxonomy)
        qualities, biased = _restorations(config, samples, answers), _bias(config, samples, taxonomy)
    summary = summarise(config, samples.degradations(), answers, qualities, biased, taxonomy)
    summary["decoding"] = posteriors.summarise(samples.degradations(), answers["after"], taxonomy, config.seed)
    if usage:
        summary["endpoint"] = usage
    output.write(folder, summary, samples, answers, qualities, taxonomy)
    report = write_report(folder if config.out else folder.parent)
    tables.show(summary)
    posteriors.show(summary["decoding"])
    print(f"{folder / 'summary.json'}; pictures and curves in {report}")


def _predictions(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> dict[str, list]:
    every = read_samples(Path(config.corpus), config.split, taxonomy).sample_ids()
    answers = given.read_predictions(Path(config.policy), every, taxonomy)
    return {"after": given.in_order(answers, samples.sample_ids())}


def _endpoint(config: Config, samples: CorpusSplit, taxonomy: Taxonomy, folder: Path) -> tuple[Answers, dict]:
    from benchmarks.quality.sources import endpoint
    from configs.cluster.connect import prepare

    _check_size(config)
    found, usage = endpoint.ask(config, samples, taxonomy, folder)
    prepare(config, "evaluate")  # needed from here on: answers cost money, a cluster that is full does not
    return {"after": given.in_order(found, samples.sample_ids())}, usage


def _policies(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> dict[str, list]:
    from configs.cluster.connect import prepare

    _check_size(config)
    folders = {"before": config.before, "after": config.policy} if config.before else {"after": config.policy}
    sources = {name: policies.find(folder, config) for name, folder in folders.items()}
    prepare(config, "evaluate")
    asked = {
        source: policies.ask(config, source, samples, taxonomy) for source in dict.fromkeys(sources.values())
    }
    return {name: given.in_order(asked[source], samples.sample_ids()) for name, source in sources.items()}


def _check_size(config: Config) -> None:
    size = read_card(Path(config.corpus))["size"]
    if size != config.world.size:
        raise UserError(f"the corpus has images of {size} px, the policy sees {config.world.size}: set world.size")


def _restorations(config: Config, samples: CorpusSplit, answers: Answers) -> dict[str, list]:
    from benchmarks.quality.parallel import restore_all
    from benchmarks.quality.restorations import columns_of

    found = {name: [answer.reading.degradation for answer in column] for name, column in answers.items()}
    return restore_all(config, samples, columns_of(samples.degradations(), found))


def _bias(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> list[dict]:
    """The rows of the bias table, from a few samples of each type."""
    from benchmarks.quality import parallel, restorations
    from benchmarks.quality.analysis import bias

    truths = samples.degradations()
    count = bias.per_type(len(truths), len({truth.type for truth in truths}))
    chosen = sorted(restorations.first_of_each(truths, count))
    wanted = bias.tasks(truths, chosen, taxonomy)
    found = parallel.restore_pairs(config, samples, list(dict.fromkeys(wanted.values())))
    return bias.rows({name: found[pair] for name, pair in wanted.items()})
