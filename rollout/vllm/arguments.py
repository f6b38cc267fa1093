"""Starts the vLLM engine of a rollout actor: its environment, its arguments, its deadlines."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from configs.schema import Config
from envs.language import grammar
from envs.world import world_taxonomy
from rollout.vllm.prompting import answer_limit, knows_answers, prompt_text, question_for

CONTEXT_MULTIPLE = 128
"""The context length is rounded up to a multiple of it, tokens."""
START_SECONDS = 300.0
"""How long an engine may take to start, whatever its size: imports, compiling, profiling."""
READ_BYTES_A_SECOND = 50e6
"""How fast the slowest disk is expected to deliver a policy."""


def on_gpu(config: Config) -> bool:
    """Tells whether engines run on GPUs."""
    return config.rollout.gpus > 0


def gpus_spread_over(config: Config) -> int:
    """Counts the GPUs, and so the vLLM workers, of one engine; 1 on a CPU, or where it has a share of one."""
    return max(1, int(config.rollout.gpus))


def transfer_backend(config: Config) -> str:
    """Chooses vLLM's weight transfer.

    Returns:
        `nccl` between whole GPUs; `ipc` where one learner rank and all engines fit one GPU, which NCCL refuses to
        serve twice; else `gloo`, through the memory of CPUs.
    """
    rollout, learner = config.rollout, config.learner
    if min(rollout.gpus, learner.gpus) >= 1:
        return "nccl"
    on_one_gpu = learner.ranks == 1 and rollout.actors * rollout.gpus + learner.gpus <= 1
    return "ipc" if on_one_gpu and min(rollout.gpus, learner.gpus) > 0 else "gloo"


def start_timeout(policy_folder: str | Path, config: Config) -> float:
    """Returns the seconds in which an engine must start: `rollout.start_timeout`, or what the policy's size needs."""
    if config.rollout.start_timeout:
        return config.rollout.start_timeout
    size = sum(file.stat().st_size for file in Path(policy_folder).glob("*.safetensors"))
    return START_SECONDS + size / READ_BYTES_A_SECOND


def environment(config: Config) -> dict[str, str]:
    """Returns the environment variables of a rollout actor, set before its process starts."""
    common = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }
    if transfer_backend(config) == "ipc":  # CUDA's memory handles reach the engine's process pickled
        common["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    if on_gpu(config):
        return common
    return common | {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines bound to the same core would starve each other
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # no worker process under the engine's: half the start-up
    }


def context_length(processor, config: Config) -> int:
    """Counts the tokens of a prompt at the working resolution and the longest answer, rounded up."""
    count, size = len(config.world.views), config.world.size
    pictures = [np.zeros((size, size, 3), np.uint8)] * count
    text = prompt_text(processor, count, question_for(processor, config))
    prompt = processor(text=[text], images=pictures)["input_ids"][0]
    longest = answer_limit(config, knows_answers(processor, world_taxonomy(config.world)))
    return math.ceil((len(prompt) + longest + 1) / CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE


def engine_arguments(policy_folder: str | Path, processor, config: Config) -> dict[str, Any]:
    """Returns the arguments of vLLM's `AsyncEngineArgs`."""
    rollout, world = config.rollout, config.world
    view = {"count": len(world.views), "width": world.size, "height": world.size}  # profiled at this size
    arguments: dict[str, Any] = {
        "model": str(policy_folder),
        "dtype": "bfloat16" if on_gpu(config) else "float32",
        "seed": config.seed,
        "max_model_len": context_length(processor, config),
        "limit_mm_per_prompt": {"image": view, "video": 0},
        "mm_processor_cache_gb": 0,  # a picture is seen once an epoch
        "max_logprobs": max(key.bins for key in world_taxonomy(config.world).keys.values()),
        "weight_transfer_config": {"backend": transfer_backend(config)},
        "kv_cache_memory_bytes": int(rollout.kv_cache_gb * 2**30),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if knows_answers(processor, world_taxonomy(config.world)) and rollout.decoding in ("median", "mean"):
        arguments["logits_processors"] = [f"rollout.vllm.logits_processors:{rollout.decoding.title()}Decoding"]
    if config.profile.steps and "rollout" in config.profile.roles:
        arguments["profiler_config"] = {
            "profiler": "torch",
            "torch_profiler_dir": tempfile.mkdtemp(prefix="duvlm-traces-"),
            "torch_profiler_with_stack": False,
            "ignore_frontend": True,  # on CPUs it shares the engine's process, where one profiler is one too few
        }
    if rollout.grammar:
        arguments["structured_outputs_config"] = {"backend": grammar.BACKEND}
    if on_gpu(config):
        if rollout.gpus < 1:  # vLLM refuses to start where less than its part is free
            arguments["gpu_memory_utilization"] = rollout.gpus
        return arguments | {
            "tensor_parallel_size": gpus_spread_over(config),
            "distributed_executor_backend": "mp" if gpus_spread_over(config) > 1 else "uni",  # the actor holds the GPUs
        }
    return arguments | {
        "distributed_executor_backend": "uni",
        "enforce_eager": True,
        "skip_mm_profiling": True,
        "block_size": 32,  # small enough that the members of a group share the cache of their prompt
        "enable_chunked_prefill": False,  # a seeded request whose prompt is split kills the engine on CPUs
    }


def start_engine(arguments: dict[str, Any]):
    """Returns a running `AsyncLLM`. Takes 10 to 20 s on a CPU, most of it imports."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
