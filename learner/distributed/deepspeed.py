"""DeepSpeed under the learner: its settings, and the little that differs between ZeRO stages."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import deepspeed
import torch
import torch.distributed as dist

from configs.schema import Learner as LearnerConfig

GRAD_CLIP = 1.0


def settings(learner: LearnerConfig, ranks: int, parameters: int, on_gpu: bool) -> dict:
    """The DeepSpeed configuration. Buckets are no larger than the model: ZeRO allocates them in full."""
    bucket = max(1_000_000, min(parameters + 1024, 50_000_000))
    zero = {"stage": learner.zero, "reduce_bucket_size": bucket, "overlap_comm": on_gpu}
    if learner.zero in (1, 2):
        zero["allgather_bucket_size"] = bucket
    if learner.zero == 3:
        zero |= {"stage3_prefetch_bucket_size": bucket, "stage3_param_persistence_threshold": 10_000}
    if "offload" in learner.memory:
        host = {"device": "cpu", "pin_memory": on_gpu}
        zero |= {"offload_optimizer": host} | ({"offload_param": host} if learner.zero == 3 else {})
    return {
        "train_micro_batch_size_per_gpu": 1,  # how many there really are is the trainer's affair,
        "train_batch_size": ranks,
        "gradient_accumulation_steps": 1,  # and so are boundaries
        "gradient_clipping": GRAD_CLIP,
        "zero_optimization": zero,
        "bf16": {"enabled": on_gpu and learner.dtype == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW steps on the host too, and needs no compiler
        "steps_per_print": 1_000_000_000,
    }


def join(backend: str) -> None:
    """Meets the other ranks at the address in the environment. backend: `nccl` or `gloo`.

    DeepSpeed's reduction through shared memory, which only inference calls, is left out: it would be compiled here, for
    a minute and with a compiler that a machine may lack.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(backend, verbose=False)


def initialize(
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    learner: LearnerConfig,
    ranks: int,
    on_gpu: bool,
):
    """The DeepSpeed engine around `module`, its chatter silenced."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    count = sum(parameter.numel() for parameter in module.parameters())
    config = settings(learner, ranks, count, on_gpu)
    return deepspeed.initialize(model=module, optimizer=optimizer, config=config, dist_init_required=False)[0]


def base_optimizer(engine) -> torch.optim.Optimizer:
    """The torch optimiser that holds this rank's float32 weights and moments, whatever the ZeRO stage."""
    optimizer = engine.optimizer
    while not isinstance(optimizer, torch.optim.Optimizer) or type(optimizer).__module__.startswith(
        "deepspeed"
    ):
        optimizer = optimizer.optimizer
    return optimizer


def master_weights(engine) -> list[torch.Tensor]:
    """This rank's float32 weights, the keys of the base optimiser's state, always in the same order."""
    if engine.zero_optimization_stage() == 3:  # its optimiser lists them only while it steps
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [weight for group in base_optimizer(engine).param_groups for weight in group["params"]]


@contextmanager
def gathered(parameters: list[torch.nn.Parameter], write: bool = False) -> Iterator[None]:
    """Whole parameters within (ZeRO-3 keeps shards). `write`: rank 0's changes reach every rank."""
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None):
        yield


def summed(numbers: list[float], device: torch.device) -> list[float]:
    """Each number added up over all ranks."""
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.tolist()


def learning_rate(step: int, total: int, learner: LearnerConfig) -> float:
    """Of the step-th optimiser step, counted from 0: linear warm-up, then a cosine to 2 %."""
    warm = min(1.0, (step + 1) / max(1, learner.warmup))
    progress = min(1.0, max(0.0, (step - learner.warmup) / max(1, total - learner.warmup)))
    return learner.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
