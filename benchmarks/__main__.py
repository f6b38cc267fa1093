"""`python -m benchmarks NAME [key=value...] [--json FILE]`: each prints its measure beside its bound."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from configs import UserError, load


@dataclass(frozen=True)
class Benchmark:
    """module: has `run(config, **flags)`, which prints and returns figures. flags: {name: argparse options}. job: whose
    settings of a track are taken."""

    module: str
    help: str
    flags: dict[str, dict]
    job: str = "evaluate"


PROMPTS = {"type": int, "default": 8, "help": "pictures, equally many of each type"}
COMPLETIONS = {"type": int, "default": 8, "help": "answers to each picture"}
RECORDED = {"type": Path, "metavar": "FILE", "help": "recorded answers; written if it is not there"}
BENCHMARKS = {
    "quality": Benchmark(
        "benchmarks.quality.analysis.restorers",
        "PSNR of restorers at true parameters and at wrong ones, beside classical methods.",
        {
            "restorers": {"nargs": "+", "default": (), "metavar": "NAME[:STEPS]", "help": "whose; all by default"},
            "cases": {
                **{"nargs": "+", "default": (), "metavar": "TYPE:NUMBER,..."},
                "help": "degradations of the photographs of photos=, in place of the samples of a corpus",
            },
        },
    ),
    "gradient": Benchmark(
        "benchmarks.quality.analysis.gradient",
        "Error of a group's policy gradient: plain GRPO beside fitted rewards, against sums over the grid.",
        {
            "types": {"nargs": "+", "default": (), "help": "degradations of one number or two"},
            "restorers": {"nargs": "+", "default": ["closed_form", "fast", "average", "hqs"], "help": "whose rewards"},
            "groups": {"type": int, "nargs": "+", "default": [4, 8, 16], "help": "answers to a picture"},
            "widths": {"type": float, "nargs": "*", "default": [0.05, 0.1, 0.2], "help": "spreads of the answers"},
            "draws": {"type": int, "default": 64, "help": "groups drawn for each picture"},
            "posteriors": {"action": "store_true", "help": "answers as policy= believes them too"},
        },
    ),
    "reward-quality": Benchmark(
        "benchmarks.quality.analysis.ranking",
        "How well the rewards of a group rank its answers: by nearness to the truth, and as `ddnm` does.",
        {
            "types": {"nargs": "+", "default": (), "help": "degradations, by default all with numbers"},
            "restorers": {
                **{"nargs": "+", "default": ["closed_form", "tv", "fast", "average", "hqs", "few"]},
                "help": "whose rewards",
            },
            "widths": {
                **{"type": float, "nargs": "*", "default": [0.05, 0.1, 0.2]},
                "help": "spreads of the answers; none: as policy= believes them",
            },
            "answers": COMPLETIONS,
            "reference": {"default": "", "metavar": "NAME", "help": "restorer whose ranking is compared with, as ddnm"},
            "conditions": {"type": int, "default": 2, "choices": [1, 2], "help": "1: without nuisances alone"},
            "scores": {"type": Path, "metavar": "FILE", "help": "rewards that are known; written as they are computed"},
        },
    ),
    "reward": Benchmark(
        "benchmarks.throughput.reward.cost",
        "Cost and ranking of a step's rewards, beside the paper's way.",
        {
            "prompts": PROMPTS,
            "completions": COMPLETIONS,
            "recorded": RECORDED,
            "again": {"action": "store_true", "help": "the reference too with other noise"},
        },
    ),
    "engine": Benchmark(
        "benchmarks.throughput.reward.engine", "Share of a reward actor's time inside the denoiser, at full load.", {}
    ),
    "scaling": Benchmark(
        "benchmarks.throughput.reward.scaling",
        "Efficiency of the reward pool from 1 to 64 actors with stand-in service times.",
        {
            "most": {"type": int, "default": 64, "help": "actors at most"},
            "queries": {"type": int, "default": 24, "help": "queries for each actor"},
            "seconds": {"type": float, "default": 0.5, "help": "mean service time"},
        },
    ),
    "pipeline": Benchmark(
        "benchmarks.throughput.loop.pipeline",
        "Step time of the loop beside that of its longest stage, with stages that sleep.",
        {
            "steps": {"type": int, "default": 8, "help": "steps of each run"},
            "seconds": {"type": float, "default": 2.0, "help": "the longest stage, a step"},
        },
    ),
    "overhead": Benchmark(
        "benchmarks.throughput.loop.overhead",
        "Milliseconds a completion costs the loop when no stage takes any time, 10 to 1,000 groups a step.",
        {"groups": {"type": int, "nargs": "+", "default": [10, 100, 1000], "help": "prompts a step"}},
    ),
    "sync": Benchmark(
        "benchmarks.throughput.loop.sync",
        "Bytes a second of a weight update beside memcpy, calls, and the pause that rollouts see.",
        {"large": {"action": "store_true", "help": "a billion parameters too (6 GB of memory)"}},
    ),
    "transfer": Benchmark(
        "benchmarks.throughput.loop.transfer", "Bytes that travel, by sample and hop; how often an image does.", {}
    ),
    "end_to_end": Benchmark(
        "benchmarks.throughput.end_to_end",
        "Completions a second of the tiny track, beside TRL's GRPOTrainer with a sequential reward function.",
        {
            "steps": {"type": int, "default": 2, "help": "learner steps"},
            "prompts": {"type": int, "default": 4, "help": "prompts a step"},
            "completions": {"type": int, "default": 4, "help": "answers to each prompt"},
        },
    ),
    "regression": Benchmark(
        "benchmarks.throughput.regression", "Ratios of the throughput benchmarks, beside the baseline in CI.", {}
    ),
    "simulate": Benchmark(
        "benchmarks.throughput.simulation.simulate",
        "The loop in virtual time with the service times of a run: step time, queue age, busy shares.",
        {
            "run": {"type": Path, "metavar": "RUN", "default": None, "help": "folder of an RL run"},
            "actors": {"type": int, "default": 1000, "help": "reward actors"},
            "completions": {"type": int, "default": 100_000, "help": "in all"},
            "check": {"action": "store_true", "help": "against real runs with sleeping stages"},
        },
    ),
    "corpus": Benchmark(
        "benchmarks.throughput.building", "Samples a second of `duvlm run corpus`, and its memory at two sizes.", {}
    ),
    "gpu": Benchmark(
        "benchmarks.gpu.__main__",
        "Denoiser, learner step, logits, transfers and engine on a GPU; `python -m benchmarks.gpu` needs no install.",
        {
            "parts": {
                **{"nargs": "+", "default": ["prior", "learner", "logits", "transfer", "engine"]},
                "help": "some of prior, learner, logits, transfer, engine",
            },
            "device": {"default": "cuda", "choices": ["cuda", "cpu"], "help": "where"},
            "small": {"action": "store_true", "help": "sizes for a CPU"},
        },
    ),
    "memory": Benchmark(
        "benchmarks.memory", "GB that each role of `offline` needs on each device, with the arithmetic.", {}, "offline"
    ),
    "soak": Benchmark(
        "benchmarks.throughput.soak",
        "Memory of driver, reward actors and object store under steady load with images.",
        {
            "minutes": {"type": float, "default": 5.0, "help": "how long"},
            "job": {"action": "store_true", "help": "a whole offline job, whose actors are killed at random"},
        },
    ),
}


ALIASES = {"gate": "regression"}  # earlier names, still understood


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        aliases = [old for old, new in ALIASES.items() if new == name]
        command = names.add_parser(name, help=benchmark.help, description=benchmark.help, aliases=aliases)
        command.add_argument("settings", nargs="*", metavar="key=value", help="settings, see `duvlm run --help`")
        command.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
        for flag, details in benchmark.flags.items():
            command.add_argument(f"--{flag}", **details)
    options, further = parser.parse_known_args(arguments)  # argparse takes no settings that follow a flag
    if strange := [word for word in further if word.startswith("-") or "=" not in word]:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    settings = [*options.settings, *further]
    benchmark = BENCHMARKS[ALIASES.get(options.name, options.name)]
    try:
        if options.json:
            _check_writable(options.json)
        if (recorded := getattr(options, "recorded", None)) and not recorded.is_file():
            _check_writable(recorded)
        module = importlib.import_module(benchmark.module)
        figures = module.run(load(benchmark.job, settings), **{f: getattr(options, f) for f in benchmark.flags})
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _check_writable(file: Path) -> None:
    """Raises UserError where `file` cannot be written: after the measurement it would be too late."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"{file}: expected a file to write to, in a folder that is there")


if __name__ == "__main__":
    sys.exit(main())
