"""What a rollout engine holds in memory: formulas of the architecture, and what is assumed of vLLM and CUDA."""

from __future__ import annotations

from configs.cluster.memory import Need, Part
from configs.cluster.resources import rollout_engines
from configs.schema import Config
from rollout.policy_shape import PolicyShape

BUCKET_BYTES = 256 * 2**20
"""As in `rollout.weights.transfer`, which imports torch."""
PROCESS = 0.7e9
"""Host memory of an actor's process before it holds anything, bytes."""
CONTEXT = Part("CUDA", 0.6e9, "context and kernels; assumed")
WORKING = 4e9
"""Activations, sampler and CUDA graphs of an engine at vLLM's default batch, bytes; assumed."""


def engine_need(config: Config, shape: PolicyShape) -> Need:
    """States what one engine holds on each of its GPUs, or on a CPU in host memory."""
    rollout = config.rollout
    gpu, spread = rollout.gpus > 0, max(1, int(rollout.gpus))
    size, cache = 2 if gpu else 4, rollout.kv_cache_gb * 2**30
    room = int(cache * spread / shape.cache_bytes(size))
    bucket = max(BUCKET_BYTES, size * shape.table)
    parts = (
        Part("weights", size * shape.parameters / spread, f"{size} x {shape.parameters / 1e9:.3f} G / {spread}"),
        Part(
            "cache of keys and values",
            cache,
            f"rollout.kv_cache_gb={rollout.kv_cache_gb:g} x 2^30: room for {room} tokens of "
            f"{shape.cache_bytes(size) / 1024:g} KiB",
        ),
        Part("weight update", bucket, "a bucket, or the largest tensor"),
    )
    hint = "a smaller rollout.kv_cache_gb or more rollout.gpus for each engine make it smaller"
    if not gpu:
        process = Part("process", 2 * PROCESS, "libraries; assumed")
        return Need(rollout_engines(config), (), (process, *parts), hint=hint)
    working = Part("activations, sampler, CUDA graphs", WORKING, "assumed")
    host = Part("processes", 3 * PROCESS * (1 + spread), "actor and workers; assumed")
    return Need(rollout_engines(config), (*parts, working, CONTEXT), (host,), hint=hint)
