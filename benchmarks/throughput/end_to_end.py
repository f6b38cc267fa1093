"""Completions a second of the whole tiny track, beside TRL's GRPOTrainer with a sequential `ddnm` reward function, and
with the pool's actors behind its reward function (`duvlm.RewardFunction`).

The same policy, prompts, group size, prior, optimiser settings and machine, one after the other in one run; see
`trl_side` for what TRL is asked to do. Seconds are those of the steps, without the loading of models. Both sample
for themselves, so that their rewards are equal in expectation, not number by number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.throughput import trl_side
from benchmarks.throughput.loop.run import step_ends
from configs import UserError, load
from configs.cluster.connect import connect
from configs.run_folders import read_metrics
from configs.schema import Config
from learner.logging import trace
from learner.rl.environment import open_environment
from learner.rl.job import run_offline
from learner.rl.reward_function import RewardFunction

FIRST = "TRL, ddnm one by one"
BOUNDS = {"ddnm": 3.0, "fast": 25.0}
RATE = 2e-5
"""Learning rate of both sides, which train every weight, as TRL does unless told otherwise."""


def run(config: Config, steps: int, prompts: int, completions: int) -> dict:
    """`steps` steps of `prompts` x `completions` answers, in TRL three ways and here with both restorers."""
    if not config.corpus:
        raise UserError("end_to_end: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    trl_side.require()
    with tempfile.TemporaryDirectory() as folder:
        config = _configured(config, folder, steps, prompts, completions)
        environment = open_environment(config, "offline", Path(config.out))
        asked = list(islice(environment.rules.prompts(config.seed, 0), steps * prompts))
        theirs = trl_side.train(config, environment, asked, trl_side.SequentialReward(config, environment, asked))
        rows = {FIRST: _row(theirs.seconds, theirs.rewards)}
        connect()
        for restorer in BOUNDS:
            with RewardFunction(_with(config, restorer)) as reward:
                pooled = trl_side.train(config, environment, asked, reward)
            rows[f"TRL, {restorer} by the pool"] = _row(pooled.seconds, pooled.rewards)
        for restorer in BOUNDS:
            rows[restorer] = _ours(config, restorer, len(theirs.rewards))
    first = rows[FIRST]["per_second"]
    for row in rows.values():
        row["times"] = row["per_second"] / first
    _show(rows)
    return {"completions": len(theirs.rewards), "trl_reward_seconds": theirs.reward_seconds, "ways": rows}


def _configured(config: Config, folder: str, steps: int, prompts: int, completions: int) -> Config:
    offline = load("offline")  # the settings of `duvlm run offline`
    return replace(
        config,
        out=str(Path(folder, "run")),
        steps=steps,
        resume=False,
        learner=replace(offline.learner, trained="all", lr=RATE, warmup=0, checkpoint_every=10**6),
        rollout=replace(config.rollout, group_size=completions, decoding="argmax"),
        grpo=replace(config.grpo, prompts=prompts, refill=0),
        reward=replace(config.reward, scorer=["mse"]),
    )


def _ours(config: Config, restorer: str, completions: int) -> dict:
    out = Path(config.out, restorer)
    run_offline(replace(_with(config, restorer), out=str(out)))
    began = min(span.start for span in trace.read_spans(out / "trace.json"))
    steps = read_metrics(out / "metrics.jsonl")
    row = _row(step_ends(out)[-1] - began, [step["reward"] for step in steps])
    return row | {"per_second": completions / row["seconds"], "restored": sum(s["rewards"]["restored"] for s in steps)}


def _with(config: Config, restorer: str) -> Config:
    return replace(config, reward=replace(config.reward, restorer=restorer, steps=0))


def _row(seconds: float, rewards: Sequence[float]) -> dict:
    return {"seconds": seconds, "per_second": len(rewards) / seconds, "reward": float(np.mean(rewards))}


def _show(rows: dict[str, dict]) -> None:
    table = Table("", "seconds", "completions a second", "times TRL's", "mean reward")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.3g}" for column in ("seconds", "per_second", "times", "reward")))
    console = Console(width=120)
    console.print(table)
    for name, bound in BOUNDS.items():
        console.print(f"{name}: {rows[name]['times']:.2f} times TRL (bar {bound:g})")
