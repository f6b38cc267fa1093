"""Measures what a weight update costs: bytes a second beside memcpy, calls, and the pause that rollouts see.

The pool, the order of calls, the packing and the transfer over gloo are the real ones; in the place of learner and
engine are processes that hold nothing but tensors
(no vLLM: what its layers do with their weights afterwards is not measured).
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.throughput.loop.stubs import SleepingEngine, SleepingWorker
from configs.cluster.connect import connect
from configs.schema import Config
from envs.types import Group, Prompt
from envs.world import policy_folder
from learner.distributed.group import LearnerGroup
from learner.distributed.weight_source import LearnerWeights
from rollout.pool import RolloutPool
from rollout.weights.gloo import join, receive
from rollout.weights.lock import UpdateLock
from rollout.weights.manifest import Manifest, buckets, checkpoint_shapes
from rollout.weights.transfer import BUCKET_BYTES, EngineClient, WeightSender

BUCKET_MB = BUCKET_BYTES // 2**20
GROUP_SECONDS = 0.02
"""A sleeping group: the pause is seen as finely as this."""
COLUMNS = ("parameters", "bucket_mb", "buckets", "gb_per_second", "memcpy", "of_memcpy", "calls", "pause")
WARM = 0.5
"""Seconds of sampling before an update and after it."""


@dataclass(frozen=True)
class Weights:
    """Random tensors to send, without the tensors."""

    shapes: dict[str, tuple[int, ...]]
    dtype: str

    @property
    def parameters(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    def manifest(self) -> Manifest:
        return Manifest(tuple(self.shapes), (self.dtype,) * len(self.shapes), tuple(self.shapes.values()))

    def write_folder(self, folder: Path, seconds: float, bucket_bytes: int) -> None:
        """What stands in for the policy's folder: the tensors' names and shapes (a safetensors file whose data is a
        hole), how long a group lasts, and the tensors again for the actors."""
        manifest, header, end = self.manifest(), {}, 0
        kind = {"float32": "F32", "bfloat16": "BF16"}[self.dtype]
        for (name, shape), size in zip(self.shapes.items(), manifest.sizes, strict=True):
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file = folder / "model.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text)
        with file.open("r+b") as stream:
            stream.truncate(8 + len(text) + end)
        (folder / "sleeps.json").write_text(json.dumps({"group": seconds, "learner": 0.0}))
        written = {"shapes": self.shapes, "dtype": self.dtype, "bucket_bytes": bucket_bytes}
        (folder / "weights.json").write_text(json.dumps(written))


def like_qwen(hidden: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a decoder: {name: shape}."""
    wide = 11 * hidden // 4
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"layers.{i}.self_attn.{name}.weight"] = (hidden, hidden)
        for name in ("gate_proj", "up_proj"):
            shapes[f"layers.{i}.mlp.{name}.weight"] = (wide, hidden)
        shapes[f"layers.{i}.mlp.down_proj.weight"] = (hidden, wide)
        shapes[f"layers.{i}.input_layernorm.weight"] = shapes[f"layers.{i}.post_layernorm.weight"] = (hidden,)
    return shapes


class SendingWorker(SleepingWorker):
    """Sends random tensors as rank 0."""

    def __init__(self, rank: int, config: Config):
        super().__init__(rank, config)
        self._timeout = config.rollout.timeout

    def start(self, address, folder: str, total_steps: int, reference) -> None:
        torch.set_num_threads(1)
        self._weights, bucket_bytes = _read(folder)
        limit = min(bucket_bytes, self._weights.manifest().bytes)
        self._sender = WeightSender("gloo", "127.0.0.1", self._timeout, limit)
        dtype = getattr(torch, self._weights.dtype)
        self._tensors = {name: torch.randn(shape, dtype=dtype) for name, shape in self._weights.shapes.items()}

    def weight_manifest(self) -> Manifest:
        return self._weights.manifest()

    def send_weights(self, engines: Sequence, whole: bool, version: int) -> None:
        client = EngineClient(engines, 1, self._timeout, version)
        self._sender.send(client, self._weights.manifest(), self._tensors.items())

    def sums(self) -> list[float]:
        return _sums(self._tensors)


class ReceivingEngine(SleepingEngine):
    """Holds tensors, and copies what it receives into them."""

    def __init__(self, folder: str, config: Config):
        super().__init__(folder, config)
        torch.set_num_threads(1)
        weights, _ = _read(folder)
        dtype = getattr(torch, weights.dtype)
        self._tensors = {name: torch.zeros(shape, dtype=dtype) for name, shape in weights.shapes.items()}
        self._calls = 0
        self._lock = UpdateLock()

    async def generate(self, prompt: Prompt, *options) -> Group:
        async with self._lock.sampling():
            return await super().generate(prompt, *options)

    async def open_transfer(self, info: dict) -> None:
        where = (info["master_address"], info["master_port"], info["rank_offset"], info["world_size"], info["timeout"])
        self._limit = info["packed_buffer_size_bytes"]
        self._group = await asyncio.to_thread(join, *where)

    async def begin_update(self) -> None:
        self._calls += 1
        await self._lock.begin_update()

    async def receive(self, update: dict) -> None:
        self._calls += 1
        shapes = tuple(tuple(shape) for shape in update["shapes"])
        await asyncio.to_thread(self._receive, Manifest(tuple(update["names"]), tuple(update["dtype_names"]), shapes))

    async def finish_update(self, version: int) -> None:
        self._calls += 1
        await self._lock.end_update()

    async def calls(self) -> int:
        """Counts the calls that updates have made of the engine."""
        return self._calls

    def _receive(self, manifest: Manifest) -> None:
        for tensors in receive(self._group, manifest, self._limit):
            for name, tensor in tensors:
                self._tensors[name].copy_(tensor)

    async def sums(self) -> list[float]:
        return _sums(self._tensors)


class _TimedWeights(LearnerWeights):
    seconds = 0.0

    async def send(self, engines: Sequence, whole: bool) -> int:
        began = time.perf_counter()
        version = await super().send(engines, whole)
        self.seconds = time.perf_counter() - began
        return version


def run(config: Config, large: bool) -> dict:
    """Measures the shipped policy's tensors and, where asked, a billion parameters."""
    connect()
    policy = Weights(checkpoint_shapes(policy_folder(config.policy, config.world)), "float32")
    rows = [{"model": "shipped policy"} | asyncio.run(measure(config, policy))]
    if large:
        billion = Weights(like_qwen(2048, 18, 50_000), "bfloat16")
        rows += [{"model": "1 B, bfloat16"} | asyncio.run(measure(config, billion, each)) for each in (16, BUCKET_MB)]
    table = Table("model", *COLUMNS)
    for row in rows:
        numbers = (row[column] for column in COLUMNS)
        table.add_row(row["model"], *(f"{n:.3g}" if isinstance(n, float) else f"{n:,}" for n in numbers))
    note = "the sending includes the engine's calls; calls: that an update makes of an engine"
    Console(width=140).print(table, note, sep="\n")
    return {"rows": rows}


async def measure(config: Config, weights: Weights, bucket_mb: int = BUCKET_MB, updates: int = 4) -> dict:
    """One row: `updates` updates of one engine, the first of which, that opens the group, does not count."""
    rollout = replace(config.rollout, actors=1, in_flight=1, cpus=0.001, gpus=0.0, group_size=2)
    learner = replace(config.learner, ranks=1, cpus=0.001, gpus=0.0)
    config = replace(config, rollout=rollout, learner=learner)
    with tempfile.TemporaryDirectory() as folder:
        weights.write_folder(Path(folder), GROUP_SECONDS, bucket_mb * 2**20)
        pool = RolloutPool(config, folder, actor_class=ReceivingEngine)
        ranks = await asyncio.to_thread(partial(LearnerGroup, config, folder, 1, worker_class=SendingWorker))
        try:
            await pool.start()
            engine = pool.engines[0]
            await _update(pool, ranks)  # opens the transfer
            measured = [await _update(pool, ranks) for _ in range(2, updates + 1)]
            calls = await engine.calls.remote()
            if await asyncio.to_thread(ranks._one, "sums") != await engine.sums.remote():
                raise RuntimeError("the engine's tensors are not those of the learner")
        finally:
            await pool.close()
            ranks.close()
    manifest = weights.manifest()
    count = sum(1 for _ in buckets(manifest.sizes, bucket_mb * 2**20))
    seconds = [send for send, _ in measured]
    speeds = [manifest.bytes / 1e9 / s for s in seconds]
    copied = memcpy()
    return {
        "parameters": weights.parameters,
        "bytes": manifest.bytes,
        "tensors": len(weights.shapes),
        "bucket_mb": bucket_mb,
        "buckets": count,
        "calls": calls / updates,
        "seconds": float(np.median(seconds)),
        "gb_per_second": float(np.median(speeds)),
        "memcpy": copied,
        "of_memcpy": float(np.median(speeds)) / copied,
        "pause": float(np.median([pause for _, pause in measured])),
    }


async def _update(pool: RolloutPool, ranks: LearnerGroup) -> tuple[float, float]:
    """Measures one update.

    Returns:
        Seconds of the sending; and the longest time without a group while groups are sampled, less a group's, seconds.
    """
    arrived, weights, done = [time.perf_counter()], _TimedWeights(ranks), asyncio.Event()

    async def prompts():
        while not done.is_set():
            yield Prompt("picture", None)

    async def sample() -> None:
        async for _ in pool.sample(prompts()):
            arrived.append(time.perf_counter())

    sampling = asyncio.create_task(sample())
    await asyncio.sleep(WARM)
    await pool.update(weights)
    await asyncio.sleep(WARM)
    done.set()
    await sampling
    return weights.seconds, max(np.diff(arrived)) - GROUP_SECONDS


def memcpy(size: int = 2**28) -> float:
    """GB a second of copying memory that has been touched, in this process; the median of seven."""
    source, target, seconds = torch.ones(size, dtype=torch.uint8), torch.ones(size, dtype=torch.uint8), []
    for _ in range(7):
        began = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - began)
    return size / 1e9 / float(np.median(seconds))


def _read(folder: str) -> tuple[Weights, int]:
    """What to send, and bytes of a bucket."""
    written = json.loads(Path(folder, "weights.json").read_text())
    shapes = {name: tuple(shape) for name, shape in written["shapes"].items()}
    return Weights(shapes, written["dtype"]), written["bucket_bytes"]


def _sums(tensors: dict[str, torch.Tensor]) -> list[float]:
    return [float(tensor.double().sum()) for tensor in tensors.values()]
