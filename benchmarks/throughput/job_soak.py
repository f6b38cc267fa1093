"""A whole offline job under fire: its reward actors and its engine are killed at random, again and again, and then the
job itself is ended and finished by the same command. Memory, steps, processes and the policy are looked at.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.throughput.lines import BOUND, fitted
from configs.run_folders import read_metrics
from configs.schema import Config

KILLS = 30
"""In all, however long it takes: a pool gives up what is lost more than 20 times."""
LOOK_SECONDS = 2.0
RATE = 1e-3
"""Low enough that thousands of steps of 2 x 4 leave a policy that answers as it did: the load is to stay the same."""
VICTIMS = ("ray::RewardActor", "ray::RewardActor", "ray::RewardActor", "VLLM::EngineCore")
ENDLESS = 1_000_000


def run(config: Config, minutes: float) -> dict:
    """Returns steps, kills, restarts, processes left behind, and memory: bytes and rise of driver and ranks."""
    out, chance = Path(config.out or f"runs/{config.name or 'soak'}/offline"), random.Random(config.seed)
    began, kills, seconds, looks, family = time.monotonic(), 0, [], [], {}
    job = _start(config, out, ENDLESS)
    due = began + 60.0 * minutes / KILLS
    while (now := time.monotonic()) - began < 60 * minutes:
        if job.poll() is not None:
            raise RuntimeError(f"the job ended by itself with status {job.returncode}: see {out}")
        family |= {process.pid: process for process in job.children(recursive=True)}
        seconds.append(now - began)
        looks.append(_memory(job))
        if now > due and _steps(out) and (victims := titled(job, chance.choice(VICTIMS))):
            chance.choice(victims).kill()
            due, kills = now + 60.0 * minutes / KILLS, kills + 1
        time.sleep(LOOK_SECONDS)
    job.send_signal(signal.SIGTERM)
    status = job.wait(180)
    left = [process.pid for process in psutil.wait_procs(family.values(), timeout=90)[1] if process.is_running()]
    finished = _start(config, out, len(_steps(out)) + 1).wait(600)
    return _told(out, status, finished, kills, left, seconds, looks)


def _told(out: Path, status: int, finished: int, kills: int, left: list[int], seconds, looks) -> dict:
    from learner.policy.model import load_policy  # here: it imports torch

    rows, figures = _steps(out), {}
    load_policy(out / "policy")
    figures["memory"] = {role: fitted(seconds, [look[role] for look in looks]) for role in looks[0]}
    for line in figures["memory"].values():
        line["flat"] = bool(line["rise"] < BOUND * line["bytes"])
    figures |= {"steps": len(rows), "continuous": [row["step"] for row in rows] == list(range(1, len(rows) + 1))}
    figures |= {"kills": kills, "left_behind": len(left), "status": status, "finished": finished}
    figures["failed"] = sum(row["failed"] for row in rows)
    Console(width=120).print(figures)
    return figures


def _start(config: Config, out: Path, steps: int) -> psutil.Popen:
    small = ["grpo.prompts=2", "rollout.group_size=4", "learner.checkpoint_every=10", "max_failures=3"]
    small += [f"learner.lr={RATE}"]
    words = ["run", "offline", f"corpus={config.corpus}", f"out={out}", f"steps={steps}", f"seed={config.seed}", *small]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "soak.log").open("a") as log:
        return psutil.Popen(
            [sys.executable, "-m", "duvlm", *words], stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ)
        )


def _steps(out: Path) -> list[dict]:
    return read_metrics(out / "metrics.jsonl")


def titled(job: psutil.Process, title: str) -> list[psutil.Process]:
    """Those of its descendants whose title begins like that."""
    found = []
    for process in job.children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def _memory(job: psutil.Popen) -> dict[str, int]:
    return {"driver": job.memory_info().rss, "ray::LearnerWorker": _resident(job, "ray::LearnerWorker")}


def _resident(job: psutil.Popen, title: str) -> int:
    total = 0
    for process in titled(job, title):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total
