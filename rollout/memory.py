"""What a rollout engine holds in memory: formulas of the architecture, and what is assumed of vLLM and CUDA."""

from __future__ import annotations

from pathlib import Path

from configs import UserError
from configs.cluster.memory import Need, Part
from configs.cluster.resources import rollout_engines
from configs.files import read_json
from configs.schema import Config
from envs.world import SHIPPED, check_world, shipped_policy
from rollout.policy_shape import PUBLISHED, PolicyShape

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


def read_shape(folder: Path) -> PolicyShape:
    """Reads the shape of the policy in a folder. Raises UserError where its config.json is none of a Qwen3-VL."""
    config = read_json(Path(folder) / "config.json", ("text_config", "vision_config"))
    text, vision = config["text_config"], config["vision_config"]
    try:
        head = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        return PolicyShape(
            name=Path(folder).name,
            vocabulary=text["vocab_size"],
            tied=bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings")),
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            queries=text["num_attention_heads"] * head,
            keys=text["num_key_value_heads"] * head,
            head=head,
            intermediate=text["intermediate_size"],
            vision_depth=vision["depth"],
            vision_hidden=vision["hidden_size"],
            vision_intermediate=vision["intermediate_size"],
            patch=vision["patch_size"],
            merge=vision["spatial_merge_size"],
            temporal=vision["temporal_patch_size"],
            positions=vision["num_position_embeddings"],
            deepstack=len(vision["deepstack_visual_indexes"]),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: its config.json is not that of a Qwen3-VL (it has no {error})") from None


def shape_of(config: Config) -> PolicyShape | None:
    """Finds the shape of the policy that a job would run.

    Returns:
        That of the folder config.policy, or of the shipped policy (`random` is of its size). Where the shipped one is
        of another world, that of the published model; None for what is not here, or of another kind.
    """
    if config.policy == "shipped":
        folder = shipped_policy(config.world)
        try:
            check_world(folder, config.world)
        except UserError:
            return PUBLISHED
    elif config.policy == "random":
        folder = SHIPPED
    elif "Qwen3-VL-8B" in config.policy and not Path(config.policy).is_dir():
        return PUBLISHED
    else:
        folder = Path(config.policy)
    return shape_or_none(folder)


def shape_or_none(folder: Path) -> PolicyShape | None:
    """Reads the shape of the policy in a folder; None where it is of another architecture."""
    try:
        return read_shape(folder)
    except UserError:
        return None
