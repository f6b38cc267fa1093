"""Scores that others wrote: those that packages register (`duvlm.scorers`, docs/scorers.md), and pyiqa's by their
names, without ever downloading: weights are on disk or the name is refused.

pyiqa is under the PolyForm Noncommercial licence (some parts under NTU S-Lab's): it is imported only where one
of its metrics is asked for, and nothing here needs it otherwise.
"""

from __future__ import annotations

import contextlib
import io
import sys
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from configs import UserError, plugins

LICENCE = "pyiqa is licensed for non-commercial use only (PolyForm Noncommercial 1.0.0)"
_BUILDING: ContextVar[str] = ContextVar("metric", default="")
"""The metric that this thread is building, if any."""


def evaluate(name: str, pictures: Tensor, truths: Tensor | None = None, weights: str = "") -> Tensor:
    """Computes the raw numbers of a metric: (B,) float64 on the device of the pictures.

    Args:
        name: one that a package registers, or any of `pyiqa.list_models()`.
        pictures, truths: (B, 3, H, W) in [0, 1]; truths for metrics with a reference only.
        weights: a file instead of the one in $TORCH_HOME/hub/pyiqa.

    Raises:
        UserError: pyiqa is missing, does not know the name, lacks its weights, or cannot judge pictures so small.
    """
    if own := plugins.find(plugins.SCORERS, name):
        given = (pictures,) if truths is None else (pictures, truths)
        return torch.as_tensor(own(*given, **({"weights": weights} if weights else {}))).double()
    metric = _metric(name, weights, str(pictures.device))
    # On a CPU a batch is no faster than its rows, and its rounding would depend on its size.
    rows = 1 if pictures.device.type == "cpu" else len(pictures)
    parts = pictures.split(rows) if truths is None else zip(pictures.split(rows), truths.split(rows), strict=True)
    try:
        with torch.inference_mode():
            scores = [metric(*part) if isinstance(part, tuple) else metric(part) for part in parts]
    except (RuntimeError, AssertionError) as error:
        size = "x".join(map(str, pictures.shape[-2:]))
        raise UserError(f"{name}: pyiqa cannot judge these pictures of {size} px: {error}") from error
    return torch.cat([score.reshape(-1) for score in scores]).double()


def needs_truth(name: str) -> bool:
    """Tells whether a metric compares with a reference. Raises UserError where nobody has such a name."""
    if own := plugins.find(plugins.SCORERS, name):
        return getattr(own, "needs_truth", False)
    return _entry(name)["metric_mode"] == "FR"


def higher_is_better(name: str) -> bool:
    """Tells the direction of a metric. Raises UserError where nobody has such a name."""
    if own := plugins.find(plugins.SCORERS, name):
        return getattr(own, "higher_is_better", True)
    return not _entry(name).get("lower_better", False)


def _entry(name: str) -> dict:
    """Looks up pyiqa's entry of a name."""
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
    _entry(name)
    import pyiqa

    if weights and not Path(weights).expanduser().is_file():
        raise UserError(f"{name}: no weights at {weights}: expected a file")
    chosen = {"pretrained_model_path": str(Path(weights).expanduser())} if weights else {}
    _forbid_network()
    token = _BUILDING.set(name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says "Downloading" before it asks
            return pyiqa.create_metric(name, device=torch.device(device), **chosen)
    except (OSError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: pyiqa could not build it from what is on disk (torch weights in"
            f" {torch.hub.get_dir()}, Hugging Face models in $HF_HOME): {error}. {LICENCE}"
        ) from error
    finally:
        _BUILDING.reset(token)


@lru_cache(1)
def _forbid_network() -> None:
    """Installs, once a process, the audit hook that keeps a metric from the network while it is built."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple) -> None:
    name = _BUILDING.get()
    if not name or event not in ("urllib.Request", "socket.getaddrinfo", "socket.connect"):
        return
    if event != "urllib.Request":  # Hugging Face's client takes it for a lack of network, and looks on disk
        raise OSError(f"{name}: nothing is downloaded")
    url = arguments[0]
    hub = Path(torch.hub.get_dir())
    folder = hub / {"download.pytorch.org": "checkpoints", "openaipublic.azureedge.net": "clip"}.get(
        urlparse(url).netloc, "pyiqa"
    )
    raise UserError(
        f"{name}: its weights are not here: expected {folder / Path(urlparse(url).path).name}. Nothing is downloaded: "
        f"fetch {url} yourself and put it there (TORCH_HOME moves the folder). {LICENCE}"
    )
