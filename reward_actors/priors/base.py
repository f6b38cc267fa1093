"""Diffusion priors: they look at a noisy picture and say which part is noise.

A prior has `eps(x, t)`, the noise schedule `alphas_cumprod` and a `fingerprint`; it knows no degradations.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from configs import UserError
from configs.hub import model_folder
from envs.degradations.common import dct2, idct2, photo_power
from reward_actors.priors.unet import UNetPrior
from reward_actors.restoration.alphas import BETAS, TIMESTEPS, linear_alphas

if TYPE_CHECKING:
    from diffusers import UNet2DModel

SHIPPED = Path(__file__).parents[1] / "weights" / "prior"
SCHEDULE = {
    "beta_schedule": "linear",
    "beta_start": BETAS[0],
    "beta_end": BETAS[1],
    "trained_betas": None,
    "num_train_timesteps": TIMESTEPS,
    "prediction_type": "epsilon",
}
"""The scheduler of every prior here, in the words of diffusers."""


class Prior(Protocol):
    """What a restorer needs of a prior.

    alphas_cumprod: float64 (T,), the share of signal variance left at timestep t.
    fingerprint: 16 hex digits that change with the weights; scores are remembered under it.
    """

    alphas_cumprod: Tensor
    fingerprint: str
    device: torch.device

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """x: float32 (B, 3, H, W), pictures on [-1, 1] with noise; t: int64 (B,). The noise, (B, 3, H, W)."""
        ...


def load_prior(
    spec: str, size: int, device: str = "cpu", dtype: torch.dtype | str = torch.float32
) -> Prior:
    """The prior that a configuration names.

    Args:
        spec: `shipped`, `gaussian`, the folder of a diffusers UNet2DModel (its `unet/` is found too), or an ADM
            checkpoint, FILE.pt.
        size: pixels a side of the pictures; the Gaussian prior depends on it.
        dtype: precision of the network; pictures, noise and operators stay float32.

    Raises:
        UserError: the file or folder is missing or holds no such network.
    """
    if spec == "gaussian":
        return photo_gaussian(size, device)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    prior = UNetPrior(_load_network(spec, dtype), device)
    prior.compile_if_faster(size)
    return prior


def _load_network(spec: str, dtype: torch.dtype) -> UNet2DModel:
    """A diffusers network, or an ADM one that answers like it."""
    if spec.endswith((".pt", ".pth")):
        from reward_actors.priors.adm_files import load_adm

        return load_adm(Path(spec).expanduser(), dtype)
    folder = SHIPPED if spec == "shipped" else model_folder(spec, "reward.prior")
    if (folder / "unet" / "config.json").exists():
        folder = folder / "unet"
    if not (folder / "config.json").exists():
        raise UserError(
            f"reward.prior={spec}: expected a folder with a diffusers UNet2DModel (config.json and weights), "
            f"found none in {folder}. Train one with `duvlm run prior`, or use prior=gaussian."
        )
    _check_schedule(folder)
    from diffusers import UNet2DModel  # six seconds that nobody spends who has no network to load

    try:
        return UNet2DModel.from_pretrained(str(folder), torch_dtype=dtype, local_files_only=True)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"reward.prior={spec}: {folder} is no readable UNet2DModel: {reason}") from error


class GaussianPrior:
    """Pictures are N(mean, power) independently per DCT-II frequency: every answer is known in closed form.

    Args:
        mean: (3, H, W) or broadcastable to it, on [-1, 1].
        power: (H, W) or (3, H, W), variance of each orthonormal DCT-II coefficient of x - mean.
    """

    def __init__(self, mean: Tensor, power: Tensor, device: str = "cpu"):
        self.alphas_cumprod = linear_alphas()
        self.device = torch.device(device)
        self.mean, self.power = mean.to(self.device).float(), power.to(self.device).float()
        digest = hashlib.sha256()
        for tensor in (self.mean, self.power):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Exact: (x - sqrt(a) E[x0 | x]) / sqrt(1 - a)."""
        a = self.alphas_cumprod[t.cpu()].float().to(x.device).reshape(-1, 1, 1, 1)
        gain = (1 - a).sqrt() / (a * self.power + 1 - a)
        return idct2(gain * dct2(x - a.sqrt() * self.mean))


def photo_gaussian(size: int, device: str = "cpu") -> GaussianPrior:
    """The Gaussian with the mean spectrum of photographs, and as wide a spread of brightness: sd .5."""
    power = 4 * photo_power(size, size)
    power[0, 0] = (0.5 * size) ** 2
    return GaussianPrior(torch.zeros(1, 1, 1), power, device)


def _check_schedule(folder: Path) -> None:
    """A scheduler saved beside the network must be the one we run: linear betas, noise predicted."""
    for path in (folder / "scheduler_config.json", folder.parent / "scheduler" / "scheduler_config.json"):
        if not path.exists():
            continue
        try:
            saved = json.loads(path.read_text())
            wrong = {name: saved[name] for name, ours in SCHEDULE.items() if saved.get(name, ours) != ours}
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path}: expected the JSON object of a diffusers scheduler: {error}") from error
        if wrong:
            expected = {name: SCHEDULE[name] for name in wrong}
            raise UserError(
                f"{path}: expected linear betas and a network that predicts noise, {expected}, found {wrong}: "
                "a prior trained otherwise cannot be used"
            )
