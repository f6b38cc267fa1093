"""OpenAI's guided-diffusion network ("ADM", Dhariwal and Nichol, 2021, appendix B), read from its checkpoints.

Names and shapes of the parameters are those of the published files. Almost everything is read off them; what leaves
no trace there (heads, their order, a class) stands in a small JSON file beside the checkpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from configs import UserError
from reward_actors.priors.adm_blocks import Attention, Downsample, Norm, Residual, Stage, Upsample, wave_embedding

_OUTSIDE = 'diffusion networks of guided-diffusion have "time_embed.0.weight", "input_blocks.0.0.weight", ...'


@dataclass(frozen=True)
class Unwritten:
    """What a state dict does not show.

    head_channels, heads: width of an attention head, or their number; one of the two is 0.
    new_attention_order: queries, keys and values are split before the heads, not after (`legacy`).
    label: the class a class-conditional network is asked for.
    noise_schedule: `linear`, the only one a prior here can have.
    """

    head_channels: int = 0
    heads: int = 0
    new_attention_order: bool = False
    label: int = -1
    noise_schedule: str = "linear"


def from_state(state: dict[str, Tensor], settings: Unwritten, name: str = "checkpoint") -> AdmNetwork:
    """The network whose parameters are `state`; raises UserError where they are not those of an ADM."""
    try:
        with torch.device("meta"):
            network = AdmNetwork(state, settings)
        network.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise UserError(f"reward.prior={name}: not an ADM network ({_OUTSIDE}): {error}") from error
    return network.eval()


class Answer(NamedTuple):
    """What the network says: (B, 3 or 6, H, W)."""

    sample: Tensor


class AdmNetwork(nn.Module):
    """The network, answering as a diffusers UNet2DModel does: `network(x, t).sample`, `.config`, `.dtype`.

    x: (B, 3, H, W), sides divisible by 2^(levels - 1); t: (B,). The sample has 3 channels of noise, and 3 more
    where the variance is learned.
    """

    def __init__(self, state: dict[str, Tensor], settings: Unwritten):
        super().__init__()
        self._width = state["time_embed.0.weight"].shape[1]
        self.settings = settings
        inner = state["time_embed.0.weight"].shape[0]
        self.time_embed = nn.Sequential(nn.Linear(self._width, inner), nn.SiLU(), nn.Linear(inner, inner))
        if "label_emb.weight" in state:
            self.label_emb = nn.Embedding(*state["label_emb.weight"].shape)
        plan = _Plan(state, settings)
        self.input_blocks, self.output_blocks = plan.blocks("input_blocks"), plan.blocks("output_blocks")
        self.middle_block = plan.stage("middle_block")
        head = state["out.2.weight"]
        self.out = nn.Sequential(Norm(head.shape[1]), nn.SiLU(), nn.Conv2d(head.shape[1], head.shape[0], 3, padding=1))
        first = state["input_blocks.0.0.weight"]
        self.config = SimpleNamespace(in_channels=first.shape[1], block_out_channels=(self._width,) * plan.levels)

    @property
    def dtype(self) -> torch.dtype:
        return self.out[2].weight.dtype

    def forward(self, x: Tensor, t: Tensor) -> Answer:
        embedding = self.time_embed(wave_embedding(t, self._width).to(self.dtype))
        if hasattr(self, "label_emb"):
            embedding = embedding + self.label_emb.weight[self.settings.label]
        skips = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        return Answer(self.out(x))


class _Plan:
    """Reads the layers off the names and shapes of a state dict.

    Only which residual blocks resize leaves no name: those of the input side come after every `n` others where no
    strided convolution does their work; those of the output side are the second residual block of their stage.
    """

    def __init__(self, state: dict[str, Tensor], settings: Unwritten):
        self._state, self._settings = state, settings
        outputs, inputs = self._count("output_blocks"), self._count("input_blocks")
        grows = r"output_blocks\.\d+\.[1-9]\.(conv|in_layers\.0)\.weight"
        self.levels = 1 + sum(re.fullmatch(grows, name) is not None for name in state)
        per_level, rest = divmod(outputs, self.levels)  # n + 1 of them on either side
        if rest or inputs != outputs:
            raise ValueError(f"{inputs} input and {outputs} output stages at {self.levels} sizes")
        self._shrinking = set(range(per_level, inputs, per_level))

    def blocks(self, side: str) -> nn.ModuleList:
        return nn.ModuleList(self.stage(f"{side}.{index}") for index in range(self._count(side)))

    def stage(self, prefix: str) -> Stage:
        last = 1 + max(int(name[len(prefix) + 1 :].split(".")[0]) for name in self._names(prefix))
        return Stage(*(self._layer(prefix, index) for index in range(last)))

    def _layer(self, prefix: str, index: int) -> nn.Module:
        here = f"{prefix}.{index}."
        side, _, number = prefix.partition(".")
        if f"{here}in_layers.2.weight" in self._state:
            out, channels = self._state[f"{here}in_layers.2.weight"].shape[:2]
            wide, embedded = self._state[f"{here}emb_layers.1.weight"].shape
            resize = 0.5 if side == "input_blocks" and int(number) in self._shrinking else 1
            resize = 2 if side == "output_blocks" and index > 0 else resize
            return Residual(channels, out, embedded, wide == 2 * out, resize)
        if f"{here}qkv.weight" in self._state:
            channels = self._state[f"{here}qkv.weight"].shape[1]
            heads = self._settings.heads or channels // self._settings.head_channels
            if not heads or channels % heads:
                raise ValueError(f"{channels} channels cannot be shared by the heads of {self._settings}")
            return Attention(channels, heads, self._settings.new_attention_order)
        if f"{here}op.weight" in self._state:
            return Downsample(self._state[f"{here}op.weight"].shape[0])
        if f"{here}conv.weight" in self._state:
            return Upsample(self._state[f"{here}conv.weight"].shape[0])
        weight = self._state[f"{here}weight"]
        return nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)

    def _names(self, prefix: str) -> list[str]:
        return [name for name in self._state if name.startswith(prefix + ".")]

    def _count(self, side: str) -> int:
        return len({found[1] for name in self._state if (found := re.match(rf"{side}\.(\d+)\.", name))})
