"""Finds the prior that a configuration names."""

from __future__ import annotations

from pathlib import Path

import torch

from configs import UserError
from configs.files import read_json
from configs.hub import model_folder
from configs.models import check_model
from reward_actors.priors.base import SCHEDULE, Prior
from reward_actors.priors.convert_adm import load_adm
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.priors.unet import UNetPrior

SHIPPED = Path(__file__).parents[1] / "weights" / "prior"


def load_prior(spec: str, size: int, device: str = "cpu", dtype: torch.dtype | str = torch.float32) -> Prior:
    """Loads the prior that a configuration names.

    Args:
        spec: `shipped`, `gaussian`, the folder of a diffusers UNet2DModel (its `unet/` is found too), or an ADM
            checkpoint, FILE.pt.
        size: pixels a side of the pictures; the Gaussian prior depends on it.
        device: where the network runs, as torch names it.
        dtype: precision of the network; pictures, noise and operators stay float32.

    Raises:
        UserError: the file or folder is missing or holds no such network.
    """
    if spec == "gaussian":
        return photo_gaussian(size, device=device)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if spec.endswith((".pt", ".pth")):
        prior = UNetPrior(load_adm(Path(spec).expanduser(), dtype), device)
    else:
        prior = UNetPrior(_load_folder(spec, dtype), device)
    prior.compile_if_faster(size)
    return prior


def _load_folder(spec: str, dtype: torch.dtype):
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
        check_model(folder, "prior")
        return UNet2DModel.from_pretrained(str(folder), torch_dtype=dtype, local_files_only=True)
    except (UserError, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"reward.prior={spec}: {folder} is no readable UNet2DModel: {reason}") from error


def _check_schedule(folder: Path) -> None:
    """Refuses a network beside whose weights another noise schedule than ours is saved."""
    for path in (folder / "scheduler_config.json", folder.parent / "scheduler" / "scheduler_config.json"):
        if not path.exists():
            continue
        saved = read_json(path, cure="expected the JSON object of a diffusers scheduler")
        if wrong := {name: saved[name] for name, ours in SCHEDULE.items() if saved.get(name, ours) != ours}:
            expected = {name: SCHEDULE[name] for name in wrong}
            raise UserError(
                f"{path}: expected linear betas and a network that predicts noise, {expected}, found {wrong}: "
                "a prior trained otherwise cannot be used"
            )
