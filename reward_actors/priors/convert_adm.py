"""Converts networks of guided-diffusion ("ADM", Dhariwal and Nichol, 2021, appendix B) into diffusers' UNet2DModel.

The published checkpoints are state dicts. Depth, widths, attention and the kind of resizing are read off the names and
shapes of the parameters; what leaves no trace there (attention heads and their order, the class) is read from a small
JSON file beside the checkpoint.

Three things the configuration of a UNet2DModel cannot express: a fixed number of attention heads at levels of
different widths (the 128 px network) and a time embedding wider than the first level (the 512 px one) are set on the
built network; the embedding of the one class that is asked for is added to the bias of the time embedding.
"""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from configs import UserError

if TYPE_CHECKING:
    from diffusers import UNet2DModel

EXAMPLE = '{"head_channels": 64}'
MODULES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
    "conv": "conv",
}
"""Names within a block: ADM's, and those of diffusers."""
ENDS = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")


@dataclass(frozen=True)
class AdmSettings:
    """States what the parameters of an ADM network do not show.

    head_channels, heads: channels of an attention head, or the number of heads; one of the two is 0.
    new_attention_order: queries, keys and values are split before the heads, not after ("legacy").
    label: the class that a class-conditional network is asked for, from 0.
    noise_schedule: `linear`, the only one a prior here can have.
    """

    head_channels: int = 0
    heads: int = 0
    new_attention_order: bool = False
    label: int = -1
    noise_schedule: str = "linear"


def load_adm(path: Path, dtype: torch.dtype = torch.float32) -> UNet2DModel:
    """Reads a checkpoint FILE.pt, with FILE.json beside it, as a UNet2DModel.

    Raises:
        UserError: unreadable file, another network's parameters, or a JSON file that is missing or wrong.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"reward.prior={path}: no readable checkpoint of tensors: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(part, Tensor) for part in state.values()):
        got = f"a {type(state).__name__}" + (" of other things" if isinstance(state, dict) else "")
        raise UserError(
            f"reward.prior={path}: expected a state dict, tensors by their names, found {got}: save the network's "
            "state_dict() alone"
        )
    settings = read_settings(path, state)
    try:
        return convert(state, settings).to(dtype)
    except (KeyError, RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise UserError(
            f"reward.prior={path}: not an ADM network (diffusion networks of guided-diffusion have "
            f'"time_embed.0.weight", "input_blocks.0.0.weight", ...): {error}'
        ) from error


def convert(state: dict[str, Tensor], settings: AdmSettings) -> UNet2DModel:
    """Builds the UNet2DModel with the parameters of an ADM network; equal to it to rounding in float32.

    Raises:
        KeyError, RuntimeError, ValueError: the parameters are not those of an ADM network.
    """
    from diffusers import UNet2DModel
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    inner, width = state["time_embed.0.weight"].shape
    residuals, levels = _depth(state)
    blocks = [f"input_blocks.{1 + level * (residuals + 1)}" for level in range(levels)]
    channels = tuple(state[f"{block}.0.in_layers.2.weight"].shape[0] for block in blocks)
    attends = [f"{block}.1.qkv.weight" in state for block in blocks]
    resnet = f"input_blocks.{residuals + 1}.0.in_layers.0.weight" in state
    plain = "Resnet{}sampleBlock2D" if resnet else "{}Block2D"
    resize = "resnet" if resnet else "conv"
    scale_shift = state["middle_block.0.emb_layers.1.weight"].shape[0] == 2 * channels[-1]
    if settings.heads and any(n % settings.heads for n, attended in zip(channels, attends, strict=True) if attended):
        raise ValueError(f"{channels} channels cannot be shared by the heads of {settings}")
    if settings.head_channels and channels[-1] % settings.head_channels:
        raise ValueError(f"{channels} channels cannot be shared by the heads of {settings}")
    with torch.device("meta"):
        network = UNet2DModel(
            in_channels=state["input_blocks.0.0.weight"].shape[1],
            out_channels=state["out.2.weight"].shape[0],
            time_embedding_dim=inner,
            block_out_channels=channels,
            layers_per_block=residuals,
            down_block_types=tuple("AttnDownBlock2D" if a else plain.format("Down") for a in attends),
            up_block_types=tuple("AttnUpBlock2D" if a else plain.format("Up") for a in reversed(attends)),
            downsample_type=resize,
            upsample_type=resize,
            attention_head_dim=settings.head_channels or None,
            attn_norm_num_groups=32,
            resnet_time_scale_shift="scale_shift" if scale_shift else "default",
        )
        if width != channels[0]:
            network.time_proj, network.time_embedding = Timesteps(width, True, 0), TimestepEmbedding(width, inner)
    network.register_to_config(heads=f"{settings.heads} {settings.head_channels}")  # for the fingerprint
    if settings.heads:
        for module in network.modules():
            if hasattr(module, "to_q"):
                module.heads = settings.heads
    renamed = {}
    for name, tensor in state.items():
        if name != "label_emb.weight":
            renamed |= _renamed(name, tensor, residuals, settings)
    if "label_emb.weight" in state:
        bias = "time_embedding.linear_2.bias"
        renamed[bias] = renamed[bias] + state["label_emb.weight"][settings.label]
    network.load_state_dict(renamed, assign=True)
    return network.eval()


def _depth(state: dict[str, Tensor]) -> tuple[int, int]:
    """Counts the residual blocks of a level and the levels."""
    inputs, outputs = (
        len({name.split(".")[1] for name in state if name.startswith(side)})
        for side in ("input_blocks.", "output_blocks.")
    )
    grows = r"output_blocks\.\d+\.[1-9]\.(conv|in_layers\.0)\.weight"
    levels = 1 + sum(re.fullmatch(grows, name) is not None for name in state)
    per_level, rest = divmod(outputs, levels)
    if rest or inputs != outputs:
        raise ValueError(f"{inputs} input and {outputs} output stages at {levels} sizes")
    return per_level - 1, levels


def _renamed(name: str, tensor: Tensor, residuals: int, settings: AdmSettings) -> dict[str, Tensor]:
    """Gives one parameter its name in diffusers; a `qkv` becomes three."""
    module, _, parameter = name.rpartition(".")
    if module in ENDS:
        return {f"{ENDS[module]}.{parameter}": tensor}
    side, *numbers, inside = re.fullmatch(r"(\w+)\.(\d+)(?:\.(\d+))?\.([a-z_]\w*(?:\.\d+)?)", module).groups()
    if side == "middle_block":
        block = MIDDLE[int(numbers[0])]
    else:
        stage, layer = int(numbers[0]) - (side == "input_blocks"), int(numbers[1])
        level, place = divmod(stage, residuals + 1)
        kind = "attentions" if inside in ("norm", "qkv", "proj_out") else "resnets"
        direction = "down" if side == "input_blocks" else "up"
        resizes = place == residuals if direction == "down" else kind == "resnets" and layer > 0
        block = f"{direction}_blocks.{level}." + (f"{direction}samplers.0" if resizes else f"{kind}.{place}")
    if inside in ("norm", "qkv", "proj_out"):
        tensor = tensor.squeeze(-1) if tensor.ndim == 3 else tensor
    if inside != "qkv":
        return {f"{block}.{MODULES[inside]}.{parameter}": tensor}
    if settings.new_attention_order:  # all queries, then all keys, then all values
        parts = tensor.chunk(3)
    else:  # head by head, each with its queries, keys and values
        channels = len(tensor) // 3
        heads = settings.heads or channels // settings.head_channels
        split = tensor.unflatten(0, (heads, 3, channels // heads))
        parts = [split[:, i].flatten(0, 1) for i in range(3)]
    return {f"{block}.to_{letter}.{parameter}": part for letter, part in zip("qkv", parts, strict=True)}


def read_settings(path: Path, state: dict[str, Tensor]) -> AdmSettings:
    """Reads the settings beside a checkpoint and checks them against it.

    Raises:
        UserError: they are missing or wrong.
    """
    beside = path.with_suffix(".json")
    attends = any(str(name).endswith(".qkv.weight") for name in state)
    if not beside.is_file() and (attends or "label_emb.weight" in state):
        raise UserError(
            f"reward.prior={path}: how many attention heads it has is not in the file: expected {beside}, such as"
            f' {EXAMPLE} (or "heads": 4); "new_attention_order" and "label" may stand there too'
        )
    settings = _read_json(beside) if beside.is_file() else AdmSettings(heads=1)
    if attends and (settings.head_channels > 0) == (settings.heads > 0):
        raise UserError(f"{beside}: expected head_channels or heads, one of them, as in {EXAMPLE}")
    if settings.noise_schedule != "linear":
        raise UserError(f"{beside}: expected noise_schedule linear, got {settings.noise_schedule}")
    classes = len(state["label_emb.weight"]) if "label_emb.weight" in state else 0
    if classes and not 0 <= settings.label < classes:
        raise UserError(f'{beside}: the network is class-conditional: expected "label" 0 .. {classes - 1}')
    return settings


def _read_json(path: Path) -> AdmSettings:
    defaults = asdict(AdmSettings())
    try:
        settings = AdmSettings(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: expected a JSON object with some of {', '.join(defaults)}: {error}") from error
    for name, value in asdict(settings).items():
        kind = type(defaults[name])
        if type(value) is not kind:
            raise UserError(f"{path}: expected {name} as {kind.__name__}, such as {defaults[name]!r}, got {value!r}")
    return settings
