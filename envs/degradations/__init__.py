"""The forward models and data-consistency operators of the world, ONE FILE PER PHYSICAL PHENOMENON.

Every module here that has a `PHENOMENON` (`base.Phenomenon`) is registered; taxonomy, language, corpus and restoration
ask `PHENOMENA`. The functions here take batches of mixed types, split them by type and put the rows together again.
Images are float32 (B, 3, H, W) in [0, 1]; values are one `Degradation` a row.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from envs.degradations.base import Operator, Phenomenon, Value
from envs.degradations.common import QUANTISATION, Tensor, quantise, stack, torch
from envs.degradations.composite import Composite, Identity
from envs.degradations.jpeg import Coding, coding_of, with_coding
from envs.degradations.jpeg import tables as quantisation_tables

if TYPE_CHECKING:
    from envs.taxonomy import Degradation, DegradationType, Taxonomy

__all__ = [
    "NONE", "PHENOMENA", "QUANTISATION", "Coding", "closed_form", "coding_of", "degrade", "deviation", "draw",
    "physics", "project", "quantisation_tables", "quantise", "sample", "with_coding",
]  # fmt: skip

NONE = "none"
"""The type of a picture with nothing wrong: it has no keys, and is never part of a composite."""
PHENOMENA: dict[str, Phenomenon] = {}
OWNERS: dict[str, str] = {}
"""{key: the phenomenon it belongs to}."""


def register(phenomenon: Phenomenon) -> None:
    """Makes a phenomenon known. Raises ValueError where another one has its name or one of its keys."""
    taken = {key.name for key in phenomenon.keys if OWNERS.get(key.name, phenomenon.name) != phenomenon.name}
    if taken or PHENOMENA.get(phenomenon.name, phenomenon) is not phenomenon:
        raise ValueError(f"{phenomenon.name}: expected a name and keys of its own, another has {sorted(taken) or 'it'}")
    PHENOMENA[phenomenon.name] = phenomenon
    OWNERS.update({key.name: phenomenon.name for key in phenomenon.keys})


def discover() -> None:
    """Registers the `PHENOMENON` of every module of this package that has one."""
    for module in pkgutil.iter_modules(__path__):
        if phenomenon := getattr(import_module(f"{__name__}.{module.name}"), "PHENOMENON", None):
            register(phenomenon)


def physics(type_name: str) -> Operator:
    """Returns the operator of a type: a phenomenon, the chain of a composite's parts ("haze+blur"), or the identity."""
    if type_name in PHENOMENA:
        return PHENOMENA[type_name]
    if type_name == NONE:
        return Identity()
    return Composite.of([PHENOMENA[name] for name in type_name.split("+")])


def sample(taxonomy: Taxonomy, type_name: str, rng: np.random.Generator, size: int) -> Degradation:
    """Draws values of one type for images of `size` pixels a side, on the grid of `taxonomy`."""
    return taxonomy.degradation(type_name, draw(taxonomy[type_name], rng, size, taxonomy.is_open))


def draw(kind: DegradationType, rng: np.random.Generator, size: int, wide: bool = False) -> dict:
    """Draws {key: value} of one type before snapping; the parts of a composite by their milder laws.

    wide: by the laws of the open world.
    """
    values = {}
    for part in kind.phenomena:
        values |= part.sample_wide(rng, size, kind) if wide else part.sample(rng, size, kind, len(kind.parts) > 1)
    return values


def deviation(key_name: str, truth: Value, answer: Value) -> tuple[np.ndarray, np.ndarray]:
    """Computes |error| and what it is compared with, for each number of a key's value: float64 (numbers,) each.

    The error of a direction is the shorter way round, and compared with half its period; all others with |truth|.
    """
    target = np.ravel(truth).astype(float)
    error = np.abs(np.ravel(answer).astype(float) - target)
    period = next(key.period for key in PHENOMENA[OWNERS[key_name]].keys if key.name == key_name)
    if not period:
        return error, np.abs(target)
    error = error % period
    return np.minimum(error, period - error), np.full_like(target, period / 2)


def degrade(x: Tensor, degradations: Sequence[Degradation], transmission: Tensor | None = None) -> Tensor:
    """Makes I_d = G(I_c; D), quantised to 8 bits (Eq. 1).

    Args:
        x: (B, 3, H, W) in [0, 1].
        degradations: one a row.
        transmission: (B, H, W) true maps, used where there is haze instead of the key's values, which describe them.
    """
    return quantise(_by_type("degrade", degradations, x, transmission=transmission))


def project(
    x0: Tensor,
    y: Tensor,
    degradations: Sequence[Degradation],
    noise_level: Tensor,
    sigma_y: Tensor | None = None,
) -> Tensor:
    """Makes estimates consistent with their data: the range part from y, the null part from x0 (DDNM, DDNM+).

    Args:
        x0: (B, 3, H, W), the prior's estimate of the clean image.
        y: (B, 3, H, W), the degraded image, 8-bit grid.
        degradations: one a row.
        noise_level: (B,) standard deviation of the error of x0, on the scale of [0, 1].
        sigma_y: (B,) standard deviation of the noise of y on the same scale; None is that of 8-bit rounding.
    """
    return _by_type("project", degradations, x0, y, noise_level, sigma_y=sigma_y)


def closed_form(y: Tensor, degradations: Sequence[Degradation], sigma_y: Tensor | None = None) -> Tensor:
    """Estimates without a prior: haze formula, interval midpoint, Wiener filter, corrected bicubic; in [0, 1].

    Args:
        y, degradations, sigma_y: as in `project`.
    """
    return _by_type("closed_form", degradations, y, sigma_y=sigma_y).clamp(0, 1)


def part_of(degradation: Degradation, window: tuple[slice, slice], size: tuple[int, int]) -> Degradation:
    """Describes the degradation of a window of a picture: what is laid out over the picture is cut with it.

    size: height and width of the picture.
    """

    def within(key: str, value: Value) -> Value:
        return PHENOMENA[OWNERS[key]].within(key, value, window, size) if key in OWNERS else value

    return replace(degradation, values=tuple((key, within(key, value)) for key, value in degradation.values))


def estimate_noise(y: Tensor, degradations: Sequence[Degradation]) -> Tensor:
    """Estimates the noise of degraded images (B, 3, H, W) in [0, 1] from themselves: the sigma_y of `project`."""
    rows = zip(y.split(1), degradations, strict=True)
    return torch.cat([physics(d.type).estimate_noise(one, stack([d], y.device)) for one, d in rows])


def _by_type(
    function: str,
    degradations: Sequence[Degradation],
    *tensors: Tensor,
    transmission: Tensor | None = None,
    sigma_y: Tensor | None = None,
) -> Tensor:
    if len(degradations) != len(tensors[0]):
        raise ValueError(f"{len(tensors[0])} images but {len(degradations)} degradations")
    result = torch.empty_like(tensors[0])
    kinds = [(d.type, tuple(key for key, _ in d.values)) for d in degradations]
    for kind in dict.fromkeys(kinds):
        type_name, rows = kind[0], [i for i, other in enumerate(kinds) if other == kind]
        values = stack([degradations[i] for i in rows], tensors[0].device)
        if transmission is not None and "transmission" in values:
            values["transmission"] = transmission[rows].to(tensors[0])
        noise = {} if sigma_y is None else {"sigma_y": sigma_y[rows].reshape(-1, 1, 1, 1)}
        result[rows] = getattr(physics(type_name), function)(*(t[rows] for t in tensors), values, **noise)
    return result


discover()
