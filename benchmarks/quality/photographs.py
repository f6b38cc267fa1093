"""`duvlm run evaluate photos=FOLDER`: real photographs whose truth nobody knows, by sub-folder (Table 3 on CleanBench).

What was read of each, what it was restored to, and no-reference scores before and after.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.quality import output
from benchmarks.quality.columns import PICTURED, Task
from benchmarks.quality.measures import Quality, label
from benchmarks.quality.report import html, tables
from benchmarks.quality.report.table import Table, flatten, with_interval
from benchmarks.quality.sources import policy as policies
from benchmarks.quality.sources.predictions import Answered, in_order
from configs.cluster.connect import prepare
from configs.run_folders import write_atomically
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.corpus.generate import encode
from envs.corpus.unlabelled import Photographs
from envs.metrics import answered_type
from envs.world import world_taxonomy

COLUMNS = ("not restored", "restored")


def evaluate(config: Config, folder: Path) -> None:
    """Reads, restores and scores the photographs of config.photos, the central square of each at world.size.

    Writes summary.json, answers.jsonl, pictures/, tables/photographs.csv and report.html; prints the table.

    Raises:
        UserError: no photographs or no policy there.
    """
    from benchmarks.quality.restorations import restore_columns

    photographs = Photographs(config.photos, config.world.size)
    ids = photographs.sample_ids()[: config.limit or None]
    samples = [photographs[number] for number in range(len(ids))]
    source = policies.find(config.policy, config)
    prepare(config, "evaluate")
    answers = in_order(policies.ask(config, source, samples, world_taxonomy(config.world)), ids)
    groups = [sample_id.rpartition("/")[0] for sample_id in ids]
    shown = {number for group in set(groups) for number in _numbers(groups, group)[:PICTURED]}
    degradations = [answer.reading.degradation for answer in answers]
    tasks = {
        "not restored": [Task(scored=True, shown=i in shown) for i in range(len(ids))],
        "restored": [Task("diffusion" if d else "none", d, True, i in shown) for i, d in enumerate(degradations)],
    }
    qualities = restore_columns(config, samples, tasks)
    summary = {"photos": config.photos, "answers": config.policy, "samples": len(ids)}
    summary["folders"] = summarise(groups, answers, qualities)
    write(folder, summary, ids, answers, qualities)
    table(summary).print(Console() if Console().is_terminal else Console(width=150))
    print(f"{folder / 'summary.json'}; pictures in {folder / 'report.html'}")


def summarise(groups: Sequence[str], answers: Sequence[Answered], qualities: Mapping[str, Sequence[Quality]]) -> dict:
    """Computes {folder, or "all": {"samples", "types": {answered type, "other" or "no answer": count}, "scores":
    {score: {"not restored", "restored", "difference": [mean, low, high]}}}}.

    groups: the folder of each photograph. Differences are in pairs; a photograph without a score is left out of it.
    """
    summary = {}
    for group in (*sorted(set(groups)), "all"):
        mine = _numbers(groups, group)
        pairs = [tuple(qualities[name][i].scores for name in COLUMNS) for i in mine]
        scores = {}
        for name in dict.fromkeys(name for pair in pairs for name in pair[0]):
            before, after = zip(*[(a[name], b[name]) for a, b in pairs if name in a and name in b], strict=True)
            gains = [b - a for a, b in zip(before, after, strict=True)]
            rows = zip((*COLUMNS, "difference"), (before, after, gains), strict=True)
            scores[name] = {column: list(mean_interval(values)) for column, values in rows}
        types = Counter(answered_type(answers[i].reading) for i in mine)
        summary[group or "."] = {"samples": len(mine), "types": dict(types.most_common()), "scores": scores}
    return summary


def table(summary: Mapping) -> Table:
    """Shows the scores of each folder before and after, and the types that were read."""
    folders = summary["folders"]
    names = list(dict.fromkeys(name for cell in folders.values() for name in cell["scores"]))
    rows = [["photographs", "samples", "read as", *(f"{label(name)}, before -> after" for name in names)]]
    for folder, cell in folders.items():
        types = ", ".join(f"{tables.type_name(kind)} {count}" for kind, count in cell["types"].items())
        shown = []
        for name in names:
            before, after, gain = (cell["scores"][name][column] for column in (*COLUMNS, "difference"))
            shown.append(f"{before[0]:.2f} -> {after[0]:.2f}, {with_interval(gain[0], gain[1:], 2, '+')}")
        rows.append([folder, str(cell["samples"]), types, *shown])
    records = flatten({folder: cell["scores"] for folder, cell in folders.items()}, "folder", "score")
    return Table.of("No-reference scores of photographs (95 % intervals of the difference)", rows, records)


def write(
    folder: Path,
    summary: Mapping,
    ids: Sequence[str],
    answers: Sequence[Answered],
    qualities: Mapping[str, Sequence[Quality]],
) -> None:
    """Writes answers.jsonl, pictures/, tables/photographs.csv, report.html, and summary.json last."""
    from benchmarks.quality.report.pictures import photograph_strips

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (sample_id, answer) in enumerate(zip(ids, answers, strict=True)):
        scores = {name: qualities[name][number].scores for name in COLUMNS}
        lines.append({"sample_id": sample_id, "after": output.answer_record(answer), "scores": scores})
        for name in COLUMNS:
            if (picture := qualities[name][number].picture) is not None:
                file = folder / "pictures" / f"{sample_id.replace('/', '~')} {name}.png"
                file.write_bytes(encode(picture))
    write_atomically(folder / "answers.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    made = table(summary)
    made.write_csv(folder / "tables" / "photographs.csv")
    macros = html.macros("photographs.html.jinja", table=made, strips=photograph_strips(folder, lines))
    sections = [
        html.Section("scores", "No-reference scores", macros.scores()),
        html.Section("pictures", "Pictures", macros.pictures()),
    ]
    about = f"Answers of {summary['answers']} on {summary['samples']} photographs of {summary['photos']}."
    lead = html.paragraph(about)
    write_atomically(folder / "report.html", html.document("photographs", sections, lead))
    output.write_summary(folder, summary)


def _numbers(groups: Sequence[str], group: str) -> list[int]:
    return [number for number, mine in enumerate(groups) if group in (mine, "all")]
