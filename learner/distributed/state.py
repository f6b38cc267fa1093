"""Everything a rank must remember to continue exactly: float32 weights and moments, steps, random generators.

Tensors go to safetensors, the rest to JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from configs import UserError
from learner.distributed.deepspeed import base_optimizer, gathered, master_weights
from learner.distributed.trainer import Trainer
from learner.distributed.weights import adapter_parameters

ADAPTERS = "adapters.safetensors"


def save_rank(trainer: Trainer, folder: Path) -> None:
    """Writes rank-R.safetensors and rank-R.json. The policy's own weights are `Trainer.save_policy`'s."""
    optimizer = base_optimizer(trainer.engine)
    tensors = {"torch_rng": torch.get_rng_state()}
    if trainer.device.type == "cuda":
        tensors["cuda_rng"] = torch.cuda.get_rng_state()
    for i, weight in enumerate(master_weights(trainer.engine)):
        tensors[f"weight.{i}"] = weight.detach()
        tensors |= {f"{name}.{i}": value for name, value in optimizer.state[weight].items()}
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        folder / f"rank-{trainer.rank}.safetensors",
    )
    if trainer.config.learner.lora:
        parameters = adapter_parameters(trainer.model)
        with gathered(list(parameters.values())):
            if trainer.rank == 0:
                adapters = {name: parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
                save_file(adapters, folder / ADAPTERS)
    facts = {"steps": trainer.steps, **_identity(trainer)}
    facts |= {"python_rng": random.getstate(), "numpy_rng": [_plain(part) for part in np.random.get_state()]}
    (folder / f"rank-{trainer.rank}.json").write_text(json.dumps(facts))


def load_rank(trainer: Trainer, folder: Path) -> None:
    """Continues where `save_rank` and `save_policy` left off.

    Raises:
        UserError: the checkpoint was written by another number of ranks, another ZeRO stage, or trained other weights.
    """
    found, here = json.loads((folder / "rank-0.json").read_text()), _identity(trainer)
    if wrong := [
        f"learner.{name} was {found[name]} and is {value}"
        for name, value in here.items()
        if found.get(name, value) != value
    ]:
        raise UserError(
            f"cannot resume from {folder}: {'; '.join(wrong)}. Set them back, or start anew with resume=false"
        )
    facts = json.loads((folder / f"rank-{trainer.rank}.json").read_text())
    tensors = load_file(folder / f"rank-{trainer.rank}.safetensors")
    _load_parameters(trainer, folder)
    optimizer = base_optimizer(trainer.engine)
    for i, weight in enumerate(master_weights(trainer.engine)):
        weight.data.copy_(tensors[f"weight.{i}"])
        names = [
            name.rpartition(".")[0]
            for name in tensors
            if name.endswith(f".{i}") and not name.startswith("weight.")
        ]
        kept = {name: tensors[f"{name}.{i}"] for name in names}
        optimizer.state[weight] = {
            name: value if name == "step" else value.to(weight.device) for name, value in kept.items()
        }
    trainer.steps = facts["steps"]
    torch.set_rng_state(tensors["torch_rng"])
    if "cuda_rng" in tensors:
        torch.cuda.set_rng_state(tensors["cuda_rng"])
    version, words, gauss = facts["python_rng"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(facts["numpy_rng"]))


def _identity(trainer: Trainer) -> dict:
    """What must be the same for a checkpoint to fit."""
    learner = trainer.config.learner
    return {"ranks": trainer.ranks, "zero": learner.zero, "lora": learner.lora, "trained": learner.trained}


@torch.no_grad()
def _load_parameters(trainer: Trainer, folder: Path) -> None:
    """The policy's weights; with LoRA the adapters': the weights are those the job begins with."""
    lora = trainer.config.learner.lora
    files = [folder / ADAPTERS] if lora else sorted((folder / "policy").glob("*.safetensors"))
    saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
    parameters = adapter_parameters(trainer.model) if lora else dict(trainer.model.named_parameters())
    for name, parameter in parameters.items():
        with gathered([parameter], write=True):
            if trainer.config.learner.zero < 3 or trainer.rank == 0:
                parameter.copy_(saved[name])


def _plain(part):
    return part.tolist() if isinstance(part, np.ndarray) else part
