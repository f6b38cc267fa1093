"""A network as a prior: sizes, precision, memory layout, compiling, and the fingerprint of its weights."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from configs import UserError
from configs.cluster.profiling import seconds
from reward_actors.priors.base import linear_alphas

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_LOG = logging.getLogger(__name__)


class UNetPrior:
    """Predicts noise with a diffusers `UNet2DModel`.

    A network with 3 p^2 input channels sees pixels packed p x p (pixel-unshuffle): p is derived, not stored.
    Sides that the network cannot halve often enough are extended by reflection and cropped again.

    Raises:
        UserError: the network's input channels are not 3 p^2.
    """

    def __init__(self, network: UNet2DModel, device: str = "cpu"):
        self.alphas_cumprod = linear_alphas()
        self.device = torch.device(device)
        self._channels = network.config.in_channels
        self.pack = round((self._channels / 3) ** 0.5)
        if 3 * self.pack**2 != self._channels:
            raise UserError(f"a prior has 3, 12, 27 or 48 input channels (3 p^2), not {self._channels}")
        self._multiple = self.pack * 2 ** (len(network.config.block_out_channels) - 1)
        self.fingerprint = _hash_weights(network)
        on_cpu = self.device.type == "cpu"
        # On a CPU a batch is no faster than its rows one by one, and its rounding depends on its size.
        self._rows_per_call = 1 if on_cpu else None
        self._layout = torch.contiguous_format if on_cpu else torch.channels_last
        self._network = network.eval().requires_grad_(False).to(self.device, memory_format=self._layout)
        for weights in self._network.parameters():  # mapped from a file they are not aligned: other rounding
            weights.data = weights.data.clone()
        self._run = self._network
        self._powers_of_two = False

    def compile_if_faster(self, size: int, rows: int = 8) -> str:
        """Runs the network compiled, as CUDA graphs, from now on if that is faster for `rows` pictures of `size` px.

        Returns:
            What was chosen and why, one line; it is logged too. Nothing changes without a GPU.
        """
        if self.device.type != "cuda":
            chosen = "prior: not compiled, there is no GPU"
        else:
            x, t = self._input(rows, size, self.device)
            inputs = (x.contiguous(memory_format=self._layout), t)
            compiled = torch.compile(self._network, mode="reduce-overhead", dynamic=False)
            with torch.inference_mode():
                plain, fast = (seconds(partial(network, *inputs), self.device) for network in (self._network, compiled))
            if fast < plain:
                self._run = compiled
                self.pad_rows()
            chosen = f"prior: compiled {1e3 * fast:.2f} ms, plain {1e3 * plain:.2f} ms for {rows} pictures of {size} px"
        _LOG.info(chosen)
        return chosen

    def flops(self, size: int) -> int:
        """Counts the floating-point operations of a picture of `size` px a side; nothing is computed for it."""
        weights = {name: tensor.to("meta") for name, tensor in self._network.state_dict().items()}
        with FlopCounterMode(display=False) as counter:
            functional_call(self._network, weights, self._input(1, size, torch.device("meta")))
        return counter.get_total_flops()

    def _input(self, rows: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Blank pictures as the network sees them, and their timesteps."""
        side = (size + -size % self._multiple) // self.pack
        x = torch.zeros(rows, self._channels, side, side, dtype=self._network.dtype, device=device)
        return x, torch.zeros(rows, dtype=torch.int64, device=device)

    def pad_rows(self) -> None:
        """Pads calls to 1, 2, 4, 8, ... rows from now on: a graph is captured per number of rows."""
        self._powers_of_two = True
        self._rows_per_call = None

    @torch.inference_mode()
    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicts the noise; shapes as in `Prior.eps`."""
        height, width = x.shape[-2:]
        right, below = -width % self._multiple, -height % self._multiple
        padded = F.pad(x, (0, right, 0, below), mode="reflect") if right or below else x
        packed = F.pixel_unshuffle(padded, self.pack).to(self._network.dtype)
        packed = packed.contiguous(memory_format=self._layout)
        t = t.to(self.device)
        if self._powers_of_two:
            wanted = torch.arange(1 << (len(x) - 1).bit_length(), device=self.device).clamp_max(len(x) - 1)
            packed = packed[wanted].contiguous(memory_format=self._layout)
            t = t[wanted]
        rows = self._rows_per_call or len(packed)
        calls = [self._run(*part).sample for part in zip(packed.split(rows), t.split(rows), strict=True)]
        noise = torch.cat(calls)[: len(x), : self._channels].float()  # a learned sigma is left out
        return F.pixel_shuffle(noise, self.pack)[..., :height, :width].contiguous()


def _hash_weights(network: UNet2DModel) -> str:
    heads = getattr(network.config, "heads", "")  # of a converted ADM network: its weights do not show it
    digest = hashlib.sha256(f"{network.dtype}{heads}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())  # without a copy
    return digest.hexdigest()[:16]
