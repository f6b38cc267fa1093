"""`duvlm run evaluate`: the answers of a policy, or of anyone, on photos it never saw (Section 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.quality import answers as given
from benchmarks.quality import figures, tables
from benchmarks.quality.report import write_report
from configs import UserError, run_folder
from configs.schema import Config
from envs.corpus import CorpusSplit, encode, read_card, read_samples
from envs.metrics import differences, measure
from envs.policy_world import policy_folder, world_taxonomy
from envs.taxonomy import Taxonomy

PICTURES = 3  # rows of pictures a type, for the report


def run(config: Config) -> None:
    """Measures the answers of predictions= or policy= (beside those of before=) on one split of corpus=.

    Writes summary.json, answers.jsonl, figures/ and a report; prints the tables last.

    Raises:
        UserError: no corpus, no policy, or predictions that cannot be read.
    """
    if not config.corpus:
        raise UserError("corpus: expected the folder of a corpus; `duvlm run corpus out=FOLDER` builds one")
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(Path(config.corpus), config.split, taxonomy, config.limit)
    if config.predictions:
        answers = _predictions(config, samples, taxonomy)
        qualities = {}
    else:
        answers = _policies(config, samples, taxonomy)
        qualities = _restorations(config, samples, answers)
    summary = summarise(config, samples, answers, qualities, taxonomy)
    folder = run_folder(config, "evaluate")
    _write(folder, summary, samples, answers, qualities, taxonomy)
    report = write_report(folder if config.out else folder.parent)
    tables.show(summary)
    print(f"{folder / 'summary.json'}; pictures and curves in {report}")


def summarise(
    config: Config,
    samples: CorpusSplit,
    answers: Mapping[str, Sequence[given.Answered]],
    qualities: Mapping[str, Sequence],
    taxonomy: Taxonomy,
) -> dict:
    """The content of summary.json: the measures of `after` on top, then those of `before` and the gains."""
    truths = samples.degradations()
    readings = {name: [answer.reading for answer in column] for name, column in answers.items()}
    summary = measure(truths, readings["after"], taxonomy, seed=config.seed).as_dict()
    summary |= {
        "corpus": config.corpus,
        "split": config.split,
        "answers": config.predictions or config.policy,
        "invalid": given.reasons(answers["after"]),
    }
    if "before" in readings:
        summary["before"] = measure(truths, readings["before"], taxonomy, seed=config.seed).as_dict()
        summary["before"] |= {"answers": config.before, "invalid": given.reasons(answers["before"])}
        gains = differences(truths, readings["before"], readings["after"], taxonomy, seed=config.seed)
        summary["differences"] = {name: list(gain) for name, gain in gains.items()}
    if qualities:
        from benchmarks.quality import restorations

        summary["restoration"] = restorations.table(qualities, truths)
        summary["reward"] = asdict(config.reward)
        if "before" in qualities:
            summary["differences"]["psnr"] = list(restorations.gain(qualities["after"], qualities["before"]))
    return summary


def _predictions(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> dict[str, list]:
    every = read_samples(Path(config.corpus), config.split, taxonomy).sample_ids()
    answers = given.read_predictions(Path(config.predictions), every, taxonomy)
    return {"after": given.in_order(answers, samples.sample_ids())}


def _policies(config: Config, samples: CorpusSplit, taxonomy: Taxonomy) -> dict[str, list]:
    from configs.cluster import prepare

    size = read_card(Path(config.corpus))["size"]
    if size != config.world.size:
        raise UserError(
            f"the corpus has images of {size} px, the policy sees {config.world.size}: set world.size"
        )
    folders = {"before": config.before, "after": config.policy} if config.before else {"after": config.policy}
    folders = {name: policy_folder(folder, config.world) for name, folder in folders.items()}
    prepare(config, "evaluate")
    asked = {
        folder: given.ask_policy(config, folder, samples, taxonomy)
        for folder in dict.fromkeys(folders.values())
    }
    return {name: given.in_order(asked[folder], samples.sample_ids()) for name, folder in folders.items()}


def _restorations(
    config: Config, samples: CorpusSplit, answers: Mapping[str, Sequence[given.Answered]]
) -> dict:
    from benchmarks.quality.restorations import restore_all

    columns = {"not restored": [None] * len(samples)}
    for name in answers:
        columns[name] = [answer.reading.degradation for answer in answers[name]]
    columns["true parameters"] = samples.degradations()
    return restore_all(config, samples, columns)


def _write(folder: Path, summary: dict, samples: CorpusSplit, answers, qualities, taxonomy: Taxonomy) -> None:
    from learner.runlog import write_atomically

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    truths = samples.degradations()
    rows = []
    for number, (sample_id, truth) in enumerate(zip(samples.sample_ids(), truths, strict=True)):
        row = {"sample_id": sample_id, "truth": truth.as_dict()}
        for name, column in answers.items():
            reading = column[number].reading
            found = reading.degradation.as_dict() if reading.degradation else None
            row[name] = {"given": column[number].given, "degradation": found, "reason": reading.reason}
        row["psnr"] = {name: round(column[number].psnr, 3) for name, column in qualities.items()}
        rows.append(json.dumps(row))
    for number in shown_rows(truths) if qualities else ():
        for name, column in qualities.items():
            file = folder / "pictures" / f"{samples[number].sample_id} {name}.png"
            file.write_bytes(encode(column[number].picture))
        (folder / "pictures" / f"{samples[number].sample_id} clean.png").write_bytes(
            encode(samples[number].clean)
        )
    readings = [answer.reading for answer in answers["after"]]
    figures.write(folder / "figures", summary, truths, readings, taxonomy)
    write_atomically(folder / "answers.jsonl", "\n".join(rows) + "\n")
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")


def shown_rows(truths: Sequence) -> list[int]:
    """Indices of the first samples of each type."""
    seen: dict[str, list[int]] = {}
    for number, truth in enumerate(truths):
        if len(seen.setdefault(truth.type, [])) < PICTURES:
            seen[truth.type].append(number)
    return [number for kind in sorted(seen) for number in seen[kind]]
