"""What a weight update costs: bytes a second beside memcpy, calls, and the pause that rollouts see.

The pool, the order of calls, the packing and the channel are the real ones; in the place of learner and engine are
processes that hold nothing but tensors (no vLLM: what its layers do with their weights afterwards is not measured).
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

from benchmarks.throughput.sleeping_actors import SleepingEngine, SleepingWorker
from configs.cluster.connect import connect
from configs.schema import Config
from envs.types import Group, Prompt
from envs.world import policy_folder
from learner.distributed.group import LearnerGroup
from learner.distributed.weight_source import LearnerWeights
from rollout.pool import RolloutPool
from rollout.weights.channel import Channel
from rollout.weights.lock import UpdateGate
from rollout.weights.manifest import Manifest, buckets, checkpoint_shapes
from rollout.weights.transfer import BUCKET_BYTES, WeightSender, receive

BOUND = 0.3
"""Of memcpy, within one machine."""
BUCKET_MB = BUCKET_BYTES // 2**20
GROUP_SECONDS = 0.02
"""A sleeping group: the pause is seen as finely as this."""
COLUMNS = (
    "parameters", "bucket_mb", "buckets", "gb_per_second", "memcpy", "of_memcpy", "shared", "rounds", "calls", "pause"
)  # fmt: skip
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
    shapes = {"embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"layers.{i}.self_attn.{name}.weight"] = (hidden, hidden)
        for name in ("gate_proj", "up_proj"):
            shapes[f"layers.{i}.mlp.{name}.weight"] = (wide, hidden)
        shapes[f"layers.{i}.mlp.down_proj.weight"] = (hidden, wide)
        shapes[f"layers.{i}.input_layernorm.weight"] = shapes[f"layers.{i}.post_layernorm.weight"] = (hidden,)
    return shapes


class SendingWorker(SleepingWorker):
    """Rank 0 with random tensors."""

    def start(self, address, folder: str, total_steps: int, reference) -> None:
        torch.set_num_threads(1)
        self._weights, self._bucket_bytes = _read(folder)
        dtype = getattr(torch, self._weights.dtype)
        self._tensors = {name: torch.randn(shape, dtype=dtype) for name, shape in self._weights.shapes.items()}

    def weight_manifest(self) -> Manifest:
        return self._weights.manifest()

    def bind_weights(self, timeout: float):
        self._sender = WeightSender("gloo", timeout, min(self._bucket_bytes, self._weights.manifest().bytes))
        return self._sender.bind("127.0.0.1")

    def open_weights(self, world_size: int) -> None:
        self._sender.open(world_size)

    def send_weights(self, whole: bool) -> int:
        return self._sender.send(self._weights.manifest(), self._tensors.items(), whole)

    def rounds(self) -> tuple[int, bool]:
        """Collective calls of the transfer so far, and whether memory is shared."""
        return self._sender._group.rounds, self._sender._group.shared

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
        self._calls, self._gate = 0, UpdateGate()

    async def generate(self, prompt: Prompt, *options) -> Group:
        async with self._gate.sampling():
            return await super().generate(prompt, *options)

    async def begin_update(self) -> None:
        self._calls += 1
        await self._gate.close()

    async def finish_update(self, version: int) -> None:
        self._calls += 1
        await self._gate.open()

    async def calls(self) -> int:
        """That an update makes of the engine, so far."""
        return self._calls

    async def open_transfer(self, info: dict) -> None:
        where = (info["master_address"], info["master_port"], info["rank_offset"], info["world_size"], info["timeout"])
        self._limit = info["packed_buffer_size_bytes"]
        self._channel = await asyncio.to_thread(Channel, *where, self._limit)

    async def receive(self, manifest: Manifest, whole: bool) -> None:
        self._calls += 1
        await asyncio.to_thread(self._receive, manifest, whole)

    def _receive(self, manifest: Manifest, whole: bool) -> None:
        for tensors in receive(self._channel, manifest, self._limit, whole):
            for name, tensor in tensors:
                self._tensors[name].copy_(tensor)

    async def sums(self) -> list[float]:
        return _sums(self._tensors)


class _TimedWeights(LearnerWeights):
    seconds = 0.0

    async def send(self, whole: bool) -> int:
        began = time.perf_counter()
        version = await super().send(whole)
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
    told = f"bar {BOUND:g} of memcpy; rounds: one collective call a bucket; calls: that an update makes of an engine"
    Console(width=140).print(table, told, sep="\n")
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
            engine, ask = pool.engines[0], partial(asyncio.to_thread, ranks._one)
            await _update(pool, ranks, config, 1)  # opens the group, and compares checksums
            opening, shared = await ask("rounds")
            measured = [await _update(pool, ranks, config, version) for version in range(2, updates + 1)]
            (rounds, _), calls = await ask("rounds"), await engine.calls.remote()
            sent, there = await ask("sums"), await engine.sums.remote()
            if sent != there:
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
        "shared": shared,
        "rounds": (rounds - opening) / (updates - 1),
        "calls": calls / updates,
        "seconds": float(np.median(seconds)),
        "gb_per_second": float(np.median(speeds)),
        "memcpy": copied,
        "of_memcpy": float(np.median(speeds)) / copied,
        "pause": float(np.median([pause for _, pause in measured])),
    }


async def _update(pool: RolloutPool, ranks: LearnerGroup, config: Config, version: int) -> tuple[float, float]:
    """Seconds of the sending, and the longest time without a group while groups are sampled, less a group's."""
    arrived, weights, done = [time.perf_counter()], _TimedWeights(ranks, config), asyncio.Event()

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


def _sums(tensors: dict[str, torch.Tensor]) -> Sequence[float]:
    return [float(tensor.double().sum()) for tensor in tensors.values()]
