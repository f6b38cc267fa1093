"""DeepSpeed under the learner: its settings, and the little that differs between ZeRO stages."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.initialization import no_init_weights

from configs import UserError
from configs.schema import Learner as LearnerConfig
from learner.policy.model import check_policy

GRAD_CLIP = 1.0
WEIGHT_DECAY = 0.01
COLLECTIVE_MINUTES = 30
"""How long ranks wait for each other in a collective. Nothing is saved within one: a save may take longer."""


def parameter_dtype(learner: LearnerConfig, on_gpu: bool) -> torch.dtype:
    """Chooses the type of the weights of policy and reference: on CPUs bfloat16 is the arithmetic's type alone."""
    return torch.bfloat16 if on_gpu and learner.dtype == "bfloat16" else torch.float32


def settings(learner: LearnerConfig, ranks: int, parameters: int, on_gpu: bool) -> dict:
    """Builds the DeepSpeed configuration. Buckets are no larger than the model: ZeRO allocates them in full."""
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
        "bf16": {"enabled": parameter_dtype(learner, on_gpu) == torch.bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},  # in bfloat16 a sum of 128 passes is wrong by 1 %
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
    deepspeed.init_distributed(backend, timeout=timedelta(minutes=COLLECTIVE_MINUTES), verbose=False)


def load_sharded(folder: Path, learner: LearnerConfig, ranks: int, on_gpu: bool, dtype: torch.dtype):
    """Opens a policy folder under ZeRO-3, so that no rank ever holds all of it: rank 0 reads one weight after the
    other, and every rank keeps its share.

    Returns:
        (the model in evaluation mode, its processor)

    Raises:
        UserError: the folder holds no policy, or one whose weights it calls by other names than the model.
    """
    config = AutoConfig.from_pretrained(check_policy(folder))
    # The type is that of the settings: given as dtype= it is ignored on CPUs without float16, for bfloat16.
    shards = deepspeed.zero.Init(config_dict_or_path=settings(learner, ranks, 0, on_gpu))
    with no_init_weights(), shards:
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()
    parameters, files = dict(model.named_parameters()), sorted(folder.glob("*.safetensors"))
    if lacking := sorted(parameters.keys() - _stored(files)):
        raise UserError(
            f"learner.zero=3 reads weights by their names, and {folder} calls some of a {type(model).__name__} "
            f"otherwise (no {lacking[0]}): set learner.zero=2"
        )
    read_parameters(parameters, files)
    return model, AutoProcessor.from_pretrained(folder)


def _stored(files: list[Path]) -> set[str]:
    """The names of the tensors in safetensors files."""
    with ExitStack() as stack:
        return {name for file in files for name in stack.enter_context(safe_open(file, "pt")).keys()}  # noqa: SIM118


@torch.no_grad()
def read_parameters(parameters: dict[str, torch.nn.Parameter], files: list[Path]) -> None:
    """Reads parameters by name from safetensors files, one at a time. Where they are sharded, rank 0 alone reads."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
        holder = {name: tensors for tensors in opened for name in tensors.keys()}  # noqa: SIM118 (no mapping)
        for name, parameter in parameters.items():
            with gathered([parameter], write=True):
                if not hasattr(parameter, "ds_id") or dist.get_rank() == 0:
                    parameter.copy_(holder[name].get_tensor(name))


def initialize(
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    learner: LearnerConfig,
    ranks: int,
    on_gpu: bool,
):
    """Builds the DeepSpeed engine around `module`, its chatter silenced."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    count = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in module.parameters())
    config = settings(learner, ranks, count, on_gpu)
    return deepspeed.initialize(model=module, optimizer=optimizer, config=config, dist_init_required=False)[0]


def adamw(model: torch.nn.Module, learner: LearnerConfig, on_gpu: bool) -> torch.optim.AdamW:
    """Makes the optimiser of what is trained; `learner.decay` says what the weight decay pulls at."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": trained, "weight_decay": WEIGHT_DECAY}]
    if learner.decay == "matrices":
        matrix = [len(getattr(parameter, "ds_shape", parameter.shape)) > 1 for parameter in trained]
        split = {
            WEIGHT_DECAY: [parameter for parameter, wide in zip(trained, matrix, strict=True) if wide],
            0.0: [parameter for parameter, wide in zip(trained, matrix, strict=True) if not wide],
        }
        groups = [{"params": part, "weight_decay": decay} for decay, part in split.items() if part]
    fused = on_gpu and "offload" not in learner.memory  # unfused it makes copies of all weights on the way
    return torch.optim.AdamW(groups, lr=learner.lr, fused=fused or None)


def base_optimizer(engine) -> torch.optim.Optimizer:
    """Finds the torch optimiser that holds this rank's float32 weights and moments, whatever the ZeRO stage."""
    optimizer = engine.optimizer
    while not isinstance(optimizer, torch.optim.Optimizer) or type(optimizer).__module__.startswith("deepspeed"):
        optimizer = optimizer.optimizer
    return optimizer


def master_weights(engine) -> list[torch.Tensor]:
    """Lists this rank's float32 weights, the keys of the base optimiser's state, always in the same order."""
    if engine.zero_optimization_stage() == 3:  # its optimiser lists them only while it steps
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [weight for group in base_optimizer(engine).param_groups for weight in group["params"]]


def sharded_numels(engine) -> list[list[int]]:
    """Counts the elements of the parameters that each of `master_weights` holds a share of; only ZeRO-3 shares each
    parameter by itself."""
    return [[parameter.ds_numel for parameter in group] for group in engine.optimizer.fp16_groups]


@contextmanager
def gathered(parameters: list[torch.nn.Parameter], write: bool = False) -> Iterator[None]:
    """Makes parameters whole within (ZeRO-3 keeps shards). write: rank 0's changes reach every rank."""
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None):
        yield


def summed(numbers: list[float], device: torch.device) -> list[float]:
    """Adds up each number over all ranks."""
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.tolist()


def learning_rate(step: int, total: int, learner: LearnerConfig) -> float:
    """Returns the rate of the step-th optimiser step, counted from 0: linear warm-up, then a cosine to 2 %.

    Not transformers' cosine schedule: its warm-up begins with a step at rate 0.
    """
    warm = min(1.0, (step + 1) / max(1, learner.warmup))
    progress = min(1.0, max(0.0, (step - learner.warmup) / max(1, total - learner.warmup)))
    return learner.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
