"""Everything a rank must remember to continue exactly: float32 weights and moments, steps, random generators.

Tensors go to safetensors, the rest to JSON; nothing is pickled. Each rank writes its share; for another number of ranks
`learner.distributed.reshard` cuts the shares anew.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from configs import UserError, manifest
from learner.distributed.deepspeed import base_optimizer, gathered, master_weights, read_parameters, sharded_numels
from learner.distributed.reshard import read_share
from learner.distributed.trainer import Trainer
from learner.distributed.weights import adapter_parameters

ADAPTERS = "adapters.safetensors"


def save_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Writes this rank's part of a checkpoint, rank 0 FOLDER/policy too: first all ranks gather, then each writes."""
    policy, adapters = trainer.gather_policy(), _gather_adapters(trainer)
    optimizer = base_optimizer(trainer.engine)
    tensors = {"torch_rng": torch.get_rng_state()}
    if trainer.device.type == "cuda":
        tensors["cuda_rng"] = torch.cuda.get_rng_state()
    for i, weight in enumerate(master_weights(trainer.engine)):
        tensors[f"weight.{i}"] = weight.detach()
        tensors |= {f"{name}.{i}": value for name, value in optimizer.state[weight].items()}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"rank-{trainer.rank}.safetensors")
    if adapters:
        save_file(adapters, folder / ADAPTERS)
    facts = {"steps": trainer.steps, "ranks": trainer.ranks, **_identity(trainer)}
    facts |= {"python_rng": random.getstate(), "numpy_rng": [_plain(part) for part in np.random.get_state()]}
    (folder / f"rank-{trainer.rank}.json").write_text(json.dumps(facts))
    trainer.write_policy(folder / "policy", policy)


def load_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Continues where `save_checkpoint` left off: to the bit on as many ranks; on another number with the same weights
    and moments, where ranks beyond those of the checkpoint take the random generators of others.

    Raises:
        UserError: the checkpoint was written under another ZeRO stage, or trained other weights.
    """
    saved = {"decay": "all", **json.loads((folder / "rank-0.json").read_text())}  # earlier ones do not say
    if wrong := [
        f"learner.{name} was {saved[name]} and is {value}"
        for name, value in _identity(trainer).items()
        if saved.get(name, value) != value
    ]:
        raise UserError(
            f"cannot resume from {folder}: {'; '.join(wrong)}. Set them back, or start anew with resume=false"
        )
    own = trainer.rank % saved["ranks"]
    facts = json.loads((folder / f"rank-{own}.json").read_text())
    _load_parameters(trainer, folder)
    _load_optimizer(trainer, folder, saved["ranks"])
    trainer.steps = facts["steps"]
    generators = load_file(folder / f"rank-{own}.safetensors")
    torch.set_rng_state(generators["torch_rng"])
    if "cuda_rng" in generators and trainer.device.type == "cuda":
        torch.cuda.set_rng_state(generators["cuda_rng"])
    version, words, gauss = facts["python_rng"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(facts["numpy_rng"]))


def _load_optimizer(trainer: Trainer, folder: Path, saved_ranks: int) -> None:
    """Gives every float32 weight of this rank its value and moments."""
    optimizer, zero = base_optimizer(trainer.engine), trainer.config.learner.zero
    weights = master_weights(trainer.engine)
    numels = sharded_numels(trainer.engine) if zero == 3 else [None] * len(weights)
    share = {"rank": trainer.rank, "ranks": trainer.ranks, "saved_ranks": saved_ranks}
    for i, weight in enumerate(weights):
        tensors = read_share(folder, i, weight.numel(), zero, numels[i], **share)
        weight.data.copy_(tensors.pop("weight").view_as(weight))
        optimizer.state[weight] = {
            name: value if name == "step" else value.view_as(weight).to(weight.device)
            for name, value in tensors.items()
        }


def _identity(trainer: Trainer) -> dict:
    """What must be the same for a checkpoint to fit."""
    learner = trainer.config.learner
    return {"zero": learner.zero, "lora": learner.lora, "trained": learner.trained, "decay": learner.decay}


def _gather_adapters(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All adapters on rank 0's host; empty without LoRA and on other ranks."""
    parameters = adapter_parameters(trainer.model) if trainer.config.learner.lora else {}
    with gathered(list(parameters.values())):
        if trainer.rank:
            return {}
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}


def _load_parameters(trainer: Trainer, folder: Path) -> None:
    """Reads the policy's weights; with LoRA the adapters': the weights are those the job begins with."""
    if trainer.config.learner.lora:
        read_parameters(adapter_parameters(trainer.model), [folder / ADAPTERS])
    else:
        written = manifest.read(folder)
        names = written.files if written else manifest.listing(folder)
        files = [folder / name for name in names if re.fullmatch(r"policy/.*\.safetensors", name)]
        read_parameters(dict(trainer.model.named_parameters()), files)


def _plain(part):
    return part.tolist() if isinstance(part, np.ndarray) else part
