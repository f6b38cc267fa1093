"""Measures what steady load does to memory: of a reward pool, or of a whole job whose actors are killed at random.

The first third of the time fills caches and is not counted; over the rest a straight line is fitted.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import ray
from rich.console import Console

from configs import UserError
from configs.cluster.connect import connect
from configs.run_folders import read_metrics
from configs.schema import Config
from envs.corpus.reader import read_samples
from envs.types import RewardQuery, Sample, Scored
from envs.world import world_taxonomy
from reward_actors.pool.pool import RewardPool

BOUND = 0.05
"""A process is flat when the line rises by less than this share of its memory over the time that counts."""
PICTURES, ANSWERS = 8, 4
MEMO = 256
STORE_BOUND = 16 * 2**20
"""So many bytes may the object store rise."""
KILLS = 30
"""In all, however long it takes: a pool gives up what is lost more than 20 times."""
LOOK_SECONDS = 2.0
RATE = 1e-3
"""Low enough that thousands of steps of 2 x 4 leave a policy that answers as it did: the load is to stay the same."""
VICTIMS = ("ray::RewardActor", "ray::RewardActor", "ray::RewardActor", "VLLM::EngineCore")
ENDLESS = 1_000_000


def run(config: Config, minutes: float, job: bool = False) -> dict:
    """Returns bytes at the start and the rise over the counted time: {process: {"bytes", "rise"}}, and `queries`."""
    if not config.corpus:
        raise UserError("soak: expected corpus=FOLDER; `duvlm run corpus count=600 out=FOLDER` builds one")
    if job:
        return _soak_job(config, minutes)
    config = replace(config, reward=replace(config.reward, scorer=["mse"]))
    samples = read_samples(config.corpus, config.split, world_taxonomy(config.world))
    connect()
    queries, seconds, looks = asyncio.run(_soak(config, samples, 60 * minutes))
    lines = {name: fitted(seconds, [look[name] for look in looks]) for name in looks[0]}
    for name, line in lines.items():
        bound = STORE_BOUND if name == "object store" else BOUND * line["bytes"]
        line["flat"] = bool(line["rise"] < bound)
        level, rise, bar = (value / 2**20 for value in (line["bytes"], line["rise"], bound))
        Console(width=120).print(f"{name}: {level:.0f} MiB, rises by {rise:+.1f} MiB (bar {bar:.0f})")
    return {"minutes": minutes, "queries": queries, "memory": lines}


async def _soak(config: Config, samples, length: float) -> tuple[int, list[float], list[dict[str, int]]]:
    pool, queries, seconds, looks = RewardPool(config, memo=MEMO), 0, [], []
    rounds = _rounds(samples)
    try:
        await pool.start()
        began = time.monotonic()
        while (now := time.monotonic() - began) < length:
            seconds.append(now)
            looks.append(_memory(pool))
            answers = await pool.score(next(rounds))
            if not all(isinstance(answer, Scored) for answer in answers):
                raise RuntimeError(f"a query failed in the soak: {answers}")
            queries += len(answers)
    finally:
        await pool.close()
    return queries, seconds, looks


def _rounds(samples) -> Iterator[list[RewardQuery]]:
    """Ever new pictures (another name is another picture to the pool), each with the answers of some others."""
    serial = 0
    while True:
        asked = []
        for _ in range(PICTURES):
            sample: Sample = samples[serial % len(samples)]
            sample = replace(sample, sample_id=f"{sample.sample_id}/{serial}")
            reference = ray.put(sample)
            others = [samples.degradations()[(serial + 4 * i) % len(samples)] for i in range(ANSWERS)]
            asked += [RewardQuery(sample.sample_id, reference, other) for other in others]
            serial += 1
        yield asked


def _memory(pool: RewardPool) -> dict[str, int]:
    has, free = ray.cluster_resources(), ray.available_resources()
    stored = int(has["object_store_memory"] - free.get("object_store_memory", 0))
    resident = {name: psutil.Process(pid).memory_info().rss for name, pid in pool.processes().items()}
    return {"driver": psutil.Process().memory_info().rss, **resident, "object store": stored}


def _soak_job(config: Config, minutes: float) -> dict:
    """Kills reward actors and engines of an offline job at random, ends the job, and finishes it by the same command.

    Returns steps, kills, restarts, processes left behind, and memory: bytes and rise of driver and ranks.
    """
    out, chance = Path(config.out or f"runs/{config.name or 'soak'}/offline"), random.Random(config.seed)
    began, kills, seconds, looks, family = time.monotonic(), 0, [], [], {}
    job = _start(config, out, ENDLESS)
    due = began + 60.0 * minutes / KILLS
    while (now := time.monotonic()) - began < 60 * minutes:
        if job.poll() is not None:
            raise RuntimeError(f"the job ended by itself with status {job.returncode}: see {out}")
        family |= {process.pid: process for process in job.children(recursive=True)}
        seconds.append(now - began)
        looks.append(_job_memory(job))
        if now > due and read_metrics(out / "metrics.jsonl") and (victims := titled(job, chance.choice(VICTIMS))):
            chance.choice(victims).kill()
            due, kills = now + 60.0 * minutes / KILLS, kills + 1
        time.sleep(LOOK_SECONDS)
    job.send_signal(signal.SIGTERM)
    status = job.wait(180)
    left = [process.pid for process in psutil.wait_procs(family.values(), timeout=90)[1] if process.is_running()]
    finished = _start(config, out, len(read_metrics(out / "metrics.jsonl")) + 1).wait(600)
    return _job_figures(out, status, finished, kills, left, seconds, looks)


def _job_figures(out: Path, status: int, finished: int, kills: int, left: list[int], seconds, looks) -> dict:
    from learner.policy.model import load_policy  # here: it imports torch

    rows, figures = read_metrics(out / "metrics.jsonl"), {}
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


def titled(job: psutil.Process, title: str) -> list[psutil.Process]:
    """Those of its descendants whose title begins like that."""
    processes = []
    for process in job.children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if " ".join(process.cmdline()).startswith(title):
                processes.append(process)
    return processes


def _job_memory(job: psutil.Popen) -> dict[str, int]:
    ranks = 0
    for process in titled(job, "ray::LearnerWorker"):
        with suppress(psutil.Error):
            ranks += process.memory_info().rss
    return {"driver": job.memory_info().rss, "ray::LearnerWorker": ranks}


def fitted(seconds: list[float], values: list[int]) -> dict:
    """Returns the level at the start of the last two thirds, and the rise of the fitted line over them."""
    late = np.array(seconds) > seconds[-1] / 3
    slope, _ = np.polyfit(np.array(seconds)[late], np.array(values, dtype=float)[late], 1)
    return {"bytes": int(np.array(values)[late][0]), "rise": float(slope * seconds[-1] * 2 / 3)}
