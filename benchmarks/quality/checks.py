"""What can be told before an engine is started or a question paid for. Imports no torch."""

from __future__ import annotations

from configs import UserError
from configs.hub import model_folder
from configs.models import check_model


def check_prior(spec: str) -> None:
    """Raises UserError where nothing is at `reward.prior`, or it is damaged; whether it is a network, only loading it
    can tell."""
    place = model_folder(spec, "reward.prior")
    if spec.endswith((".pt", ".pth")):
        there = place.is_file()
    else:
        folders = [place / name for name in ("unet", "") if (place / name / "config.json").is_file()]
        there = spec in ("shipped", "gaussian") or bool(folders)
        if folders:
            check_model(folders[0], "prior")
    if not there:
        raise UserError(
            f"reward.prior={spec}: expected shipped, gaussian, the folder of a diffusers UNet2DModel (config.json and "
            "weights) or an ADM checkpoint FILE.pt, found none there. Train one with `duvlm run prior`"
        )
