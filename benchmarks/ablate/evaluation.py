"""The evaluation of a cell: its answers and restorations alone.

`duvlm run evaluate` also restores at the true parameters, by classical methods and along errors for the bias table,
several times the work, all of it the same in every cell.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.quality.analysis import posteriors
from benchmarks.quality.parallel import restore_all
from benchmarks.quality.restorations import Task
from benchmarks.quality.sources import policy as policies
from benchmarks.quality.sources.predictions import in_order, reasons
from configs.cluster import connect as cluster
from configs.run_folders import write_atomically
from configs.schema import Config
from envs.bootstrap import mean_interval
from envs.corpus.reader import read_samples
from envs.metrics import measure
from envs.world import world_taxonomy


def evaluate(config: Config, folder: Path) -> None:
    """Answers of config.policy to config.corpus, decoded greedily, restored by config.reward's restorer.

    Writes answers.jsonl, posteriors.jsonl and .npz, and summary.json last, in the formats of `duvlm run evaluate`.
    """
    taxonomy = world_taxonomy(config.world)
    samples = read_samples(Path(config.corpus), config.split, taxonomy, config.limit)
    ids, truths, source = samples.sample_ids(), samples.degradations(), policies.find(config.policy, config)
    cluster.prepare(config, "evaluate")
    answers = in_order(policies.ask(config, source, samples, taxonomy), ids)
    read = [answer.reading.degradation for answer in answers]
    tasks = [Task("diffusion", found) if found else Task() for found in read]
    restored = restore_all(config, samples, {"after": tasks})["after"]
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "sample_id": name,
            "truth": truth.as_dict(),
            "after": {"given": answer.given, "degradation": found and found.as_dict(), "reason": answer.reading.reason},
            "psnr": {"after": round(quality.psnr, 3)},
        }
        for name, truth, answer, found, quality in zip(ids, truths, answers, read, restored, strict=True)
    ]
    write_atomically(folder / "answers.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    posteriors.write(folder, ids, truths, answers, taxonomy)
    summary = measure(truths, [answer.reading for answer in answers], taxonomy, seed=config.seed).as_dict() | {
        "corpus": config.corpus,
        "split": config.split,
        "answers": config.policy,
        "invalid": reasons(answers),
        "psnr": list(mean_interval([quality.psnr for quality in restored], seed=config.seed)),
        "decoding": posteriors.summarise(truths, answers, taxonomy, config.seed),
    }
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
