"""The policy's weights under their checkpoint's names, whichever of them are trained, or have adapters that are.

With LoRA every linear layer and both embedding tables have adapters; what they add is merged into the plain weight
where one is read, so that neither an engine nor a policy folder knows of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming, revert_weight_conversion

from learner.distributed.deepspeed import gathered
from rollout.weights.manifest import Manifest, buckets
from rollout.weights.transfer import BUCKET_BYTES

LORA_SCALE = 2
"""What the adapters add is multiplied by this (alpha / rank)."""
_ADAPTER, _BASE = "default", ".base_layer"


@dataclass(frozen=True)
class Weight:
    """A tensor of the policy. `saved`: its name in checkpoints, which engines read. `layer`: the one whose adapters are
    added to it. `changes`: training changes it, or another tensor of its module: engines load modules as wholes."""

    name: str
    saved: str
    parameter: nn.Parameter
    layer: BaseTunerLayer | None
    changes: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole, also where ZeRO-3 keeps a shard."""
        return tuple(getattr(self.parameter, "ds_shape", self.parameter.shape))

    @property
    def parts(self) -> list[nn.Parameter]:
        """What must be whole for `value`."""
        return [self.parameter, *(_adapters(self.layer) if self.layer else ())]

    @torch.no_grad()
    def value(self) -> torch.Tensor:
        """The tensor as a checkpoint has it."""
        if self.layer is None:
            return self.parameter.detach()
        return (self.parameter + self.layer.get_delta_weight(_ADAPTER)).to(self.parameter.dtype)


def choose_trained(model: PreTrainedModel, lora: int, trained: str) -> None:
    """Freezes all but `trained`, or gives it adapters of rank `lora` (0: none). Changes nothing the model computes.

    trained: `all`, `language` (without the vision tower), `norms` (the gains of the language model's RMSNorms) or
        `final_norm` (of the last of them alone, before the logits).
    Where both embedding tables are one matrix, LoRA leaves it alone.
    """
    vision = model.get_encoder(modality="image")
    if lora:
        seeing = set() if trained == "all" else set(vision.modules())
        tied = model.config.tie_word_embeddings
        tables = () if tied else (model.get_input_embeddings(), model.get_output_embeddings())
        names = [
            name
            for name, module in model.named_modules()
            if module not in seeing
            and (module in tables or (isinstance(module, nn.Linear) and module is not model.get_output_embeddings()))
        ]
        inject_adapter_in_model(LoraConfig(r=lora, lora_alpha=LORA_SCALE * lora, target_modules=names), model, _ADAPTER)
    elif trained == "language":
        vision.requires_grad_(False)
    elif trained in ("norms", "final_norm"):
        language = model.model.language_model
        model.requires_grad_(False)
        for module in language.modules() if trained == "norms" else (language.norm,):
            if type(module).__name__.endswith(("RMSNorm", "LayerNorm")):
                module.requires_grad_(True)


def weights(model: PreTrainedModel) -> list[Weight]:
    """All of them, in the order of `named_parameters`."""
    layers = {f"{name}{_BASE}.weight": m for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    plain = [(name, parameter) for name, parameter in model.named_parameters() if ".lora_" not in name]
    changed = {_module(name) for name, parameter in plain if parameter.requires_grad or name in layers}
    saved = _saved_names(model, [name.replace(_BASE, "") for name, _ in plain])
    return [
        Weight(*names, parameter, layers.get(name), _module(name) in changed)
        for names, (name, parameter) in zip(saved.items(), plain, strict=True)
    ]


def _saved_names(model: PreTrainedModel, names: Sequence[str]) -> dict[str, str]:
    """{name of a parameter: its name in checkpoints}: the same, unless transformers gave it another when it opened the
    model."""
    conversions = getattr(model, "_weight_conversions", None) or []
    if not conversions or not all(isinstance(each, WeightRenaming) for each in conversions):
        return {name: name for name in names}
    return {name: next(iter(revert_weight_conversion(model, {name: torch.empty(0)}))) for name in names}


def named_tensors(listed: Sequence[Weight]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields names in checkpoints and whole tensors; under ZeRO-3 on every rank alike, gathered bucket by bucket.

    Who packs the tensors may do so on another CUDA stream: each bucket is whole before its first tensor is yielded,
    and is released only when what was asked of its tensors is done.
    """
    for where in buckets(manifest(listed).sizes, BUCKET_BYTES):
        with gathered([part for weight in listed[where] for part in weight.parts]):
            synchronize()
            for weight in listed[where]:
                yield weight.saved, weight.value()
            synchronize()


def synchronize() -> None:
    """Waits until all streams of this process's GPU are done, where it has one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def manifest(listed: Sequence[Weight]) -> Manifest:
    """What sending them announces, without gathering anything."""
    rows = [(w.saved, str(w.parameter.dtype).removeprefix("torch."), w.shape) for w in listed]
    names, dtypes, shapes = map(tuple, zip(*rows, strict=True))
    return Manifest(names, dtypes, shapes, frozenset(weight.saved for weight in listed if not weight.changes))


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of all adapters, by their names in the model."""
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model computes what it did before training."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _adapters(layer: BaseTunerLayer) -> list[nn.Parameter]:
    return [parameter for name, parameter in layer.named_parameters() if name.startswith("lora_")]


def _module(name: str) -> str:
    return name.rpartition(".")[0]
