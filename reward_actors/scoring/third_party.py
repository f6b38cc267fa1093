"""pyiqa's metrics by their names, without ever downloading: weights are on disk or the name is refused.

pyiqa is under the PolyForm Noncommercial licence (some parts under NTU S-Lab's): it is imported only where one
of its metrics is asked for, and nothing here needs it otherwise.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from unittest import mock
from urllib.parse import urlparse

import torch
from torch import Tensor

from configs import UserError

LICENCE = "pyiqa is licensed for non-commercial use only (PolyForm Noncommercial 1.0.0)"


def evaluate(name: str, pictures: Tensor, truths: Tensor | None = None, weights: str = "") -> Tensor:
    """The raw numbers of a metric: (B,) float64 on the device of the pictures.

    Args:
        name: any name of `pyiqa.list_models()`.
        pictures, truths: (B, 3, H, W) in [0, 1]; truths for metrics with a reference only.
        weights: a file instead of the one in $TORCH_HOME/hub/pyiqa.

    Raises:
        UserError: pyiqa is missing, does not know the name, lacks its weights, or cannot judge pictures so small.
    """
    metric = _metric(name, weights, str(pictures.device))
    # On a CPU a batch is no faster than its rows, and its rounding would depend on its size.
    rows = 1 if pictures.device.type == "cpu" else len(pictures)
    parts = pictures.split(rows) if truths is None else zip(pictures.split(rows), truths.split(rows), strict=True)
    try:
        with torch.inference_mode():
            found = [metric(*part) if isinstance(part, tuple) else metric(part) for part in parts]
    except (RuntimeError, AssertionError) as error:
        size = "x".join(map(str, pictures.shape[-2:]))
        raise UserError(f"{name}: pyiqa cannot judge these pictures of {size} px: {error}") from error
    return torch.cat([part.reshape(-1) for part in found]).double()


def needs_truth(name: str) -> bool:
    """Whether a metric compares with a reference. Raises UserError where pyiqa has no such name."""
    return _known(name)["metric_mode"] == "FR"


def higher_is_better(name: str) -> bool:
    """The direction of a metric. Raises UserError where pyiqa has no such name."""
    return not _known(name).get("lower_better", False)


def _known(name: str) -> dict:
    """pyiqa's entry of a name."""
    try:
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: needs pyiqa, which is not installed: `pip install duvlm[iqa]`; {LICENCE}") from error
    if name not in DEFAULT_CONFIGS or DEFAULT_CONFIGS[name].get("metric_mode") not in ("FR", "NR"):
        from pyiqa import list_models

        raise UserError(f"no score is called {name!r}; pyiqa knows {', '.join(list_models())}")
    return DEFAULT_CONFIGS[name]


@lru_cache(8)
def _metric(name: str, weights: str, device: str) -> torch.nn.Module:
    _known(name)
    import pyiqa

    if weights and not Path(weights).expanduser().is_file():
        raise UserError(f"{name}: no weights at {weights}: expected a file")
    chosen = {"pretrained_model_path": str(Path(weights).expanduser())} if weights else {}
    try:
        with _offline(name):
            return pyiqa.create_metric(name, device=torch.device(device), **chosen)
    except (OSError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: pyiqa could not build it from what is on disk (torch weights in"
            f" {torch.hub.get_dir()}, Hugging Face models in $HF_HOME): {error}. {LICENCE}"
        ) from error


@contextlib.contextmanager
def _offline(name: str) -> Iterator[None]:
    """Whatever pyiqa would download it now asks the user for; nothing reaches for the network."""
    import huggingface_hub.constants
    import pyiqa.utils.download_util

    def refuse(url: str, target: str = "", *_, **__) -> None:
        file = target or Path(torch.hub.get_dir(), "clip", Path(urlparse(str(url)).path).name)
        raise UserError(
            f"{name}: its weights are not here: expected {file}. Nothing is downloaded: fetch {url} yourself"
            f" and put it there (TORCH_HOME moves the folder). {LICENCE}"
        )

    with (
        contextlib.redirect_stdout(io.StringIO()),  # it says "Downloading" before it asks
        mock.patch.object(pyiqa.utils.download_util, "download_url_to_file", refuse),
        mock.patch.object(torch.hub, "download_url_to_file", refuse),
        mock.patch("urllib.request.urlopen", refuse),
        mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
    ):
        yield
