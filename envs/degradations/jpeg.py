"""JPEG: what the encoder of a camera or of a web page leaves of a picture, by its quality setting."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import (
    QUANTISATION,
    F,
    Tensor,
    as_batch,
    compress,
    dct2,
    dct_matrix,
    idct2,
    photo_power,
    torch,
)

if TYPE_CHECKING:
    from PIL import Image

    from envs.taxonomy import Degradation

REDUCED = [2, 2]
"""Rows and columns that share a value of chrominance, where nothing else is known: 4:2:0."""
COARSER = 0.67
"""A file whose steps are finer than this share of those of the answer was compressed before."""
ORIENTATION = 0x0112
"""The Exif tag of how a camera was held."""
_TO_YCC = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


class Jpeg(Phenomenon):
    r"""Models lossy compression as JFIF files have it: luminance and chrominance, the latter reduced 2 x 2, in blocks
    of 8 x 8, their cosine transform c rounded to the steps q of the table that a quality stands for:

    .. math:: \hat c = q \, \mathrm{round}(c / q)

    The forward model is Pillow's own encoder and decoder. What the data say of x is a cell for each coefficient,
    :math:`|c - \hat c| \le q / 2`.
    """

    name, title = "jpeg", "JPEG"
    place = Place.FILE
    shows_when_reduced = False
    keys = (Key("quality", "1", 1.0, 100.0, 1.0),)
    severity = Severity("quality", moderate=45.0, severe=20.0, thirds=(49.5, 28.5))
    formula = "JPEG compression with chroma subsampling 4:2:0, by the encoder's `quality`"

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws a quality, uniform on 8 .. 70, mild on 30 .. 70; from 75 on it is a nuisance."""
        return {"quality": int(rng.integers(30 if mild else 8, 71))}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        pictures = (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        qualities = values["quality"].round().int().tolist()
        coded = [compress(picture, quality) for picture, quality in zip(pictures, qualities, strict=True)]
        return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).to(x) / 255

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        """Moves x0 to the nearest picture (in luminance and chrominance) whose coefficients are in the cells of y's.

        The chrominance of y is read back through the interpolation that enlarged it.
        """
        return self._within(x0, y, values)

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        """Applies the Wiener filter against the error that rounding leaves, then the cells: blocks are smoothed."""
        noise = self.input_noise(y, values, sigma_y).square()
        power = photo_power(*y.shape[-2:]).to(y.device)
        return self._within(idct2(power / (power + noise) * dct2(y)), y, values)

    def input_noise(self, y, values, sigma_y) -> Tensor:
        """Returns the standard deviation within the cells of the luminance, given photographs' power: (B, 1, 1, 1)."""
        return _within_cells(_steps(values, 0).to(y.device), sigma_y)

    def classical(self):
        return {"Wiener filter in the cells": self.estimate}

    def _within(self, x0: Tensor, y: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Clamps the coefficients of x0 into the cells that y names."""
        reductions = values["reduction"].int().tolist() if "reduction" in values else [REDUCED]
        if any(each != reductions[0] for each in reductions):
            rows = [{key: value[i : i + 1] for key, value in values.items()} for i in range(len(y))]
            pairs = zip(x0.split(1), y.split(1), rows, strict=True)
            return torch.cat([self._within(one, data, row) for one, data, row in pairs])
        down, across = reductions[0]
        height, width = x0.shape[-2:]
        matrix = torch.from_numpy(_TO_YCC).to(x0)
        planes = torch.einsum("ij,bjhw->bihw", matrix, _padded(x0) * 255)
        data = torch.einsum("ij,bjhw->bihw", matrix, _padded(y) * 255)
        planes[:, :1] += _correction(planes[:, :1] - 128, data[:, :1] - 128, _steps(values, 0).to(x0))
        small = data[:, 1:]
        small = _read_back(small.shape[-2], str(x0.device)) @ small if down == 2 else small
        small = small @ _read_back(small.shape[-1], str(x0.device)).T if across == 2 else small
        chroma = _correction(F.avg_pool2d(planes[:, 1:], (down, across)), small, _steps(values, 1).to(x0))
        planes[:, 1:] += chroma.repeat_interleave(across, -1).repeat_interleave(down, -2)
        pictures = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(matrix), planes) / 255
        return pictures[..., :height, :width]


PHENOMENON = Jpeg()


@dataclass(frozen=True)
class Coding:
    """Says how a JPEG file was written, as its header has it.

    steps: of luminance and chrominance, 8 rows of 8 grey levels each, rows are vertical frequencies.
    reduction: rows and columns of pixels that share a value of chrominance, 1 or 2 each.
    aligned: the blocks begin at the first pixel of the picture; not so if the picture was turned after decoding.
    """

    steps: tuple
    reduction: tuple[int, int]
    aligned: bool = True

    def noise_in(self, picture: np.ndarray) -> float:
        """Estimates the standard deviation on [0, 1] of the error that rounding left in the luminance of a picture.

        A coefficient that is not zero lies anywhere in its cell. Of those that are zero the deviation is read off how
        many of the same frequency are not, coefficients being spread by Laplace's law.

        picture: uint8 (H, W, 3), or a window of it that begins at a block.
        """
        steps = torch.tensor(self.steps[0])
        if not self.aligned:
            return float(_within_cells(steps[None, None], QUANTISATION))
        luminance = _padded(as_batch(picture)) * 255
        luminance = torch.einsum("j,bjhw->bhw", torch.from_numpy(_TO_YCC[0]), luminance)[:, None]
        coefficients = _blocks(luminance - 128)[0, 0].flatten(0, 1)
        alive = ((coefficients / steps).round() != 0).float().mean(0).clamp(0.5 / len(coefficients), 0.999)
        spread = steps / 2**0.5 / -alive.log()
        cell = steps.square() / 12
        variance = alive * cell + (1 - alive) * torch.minimum(cell, spread.square())
        return max(QUANTISATION, float(variance.mean().sqrt()) / 255)


def coding_of(image: Image.Image) -> Coding | None:
    """Reads the header of an opened JPEG file in colour or gray; None of any other picture."""
    from PIL import JpegImagePlugin

    tables = getattr(image, "quantization", None)
    if image.format != "JPEG" or not tables or image.mode not in ("RGB", "L"):
        return None
    reduction = {0: (1, 1), 1: (1, 2)}.get(JpegImagePlugin.get_sampling(image), (2, 2))
    chosen = np.float32([tables[0], tables.get(1, tables[0])]).reshape(2, 8, 8).tolist()
    steps = tuple(tuple(map(tuple, table)) for table in chosen)
    return Coding(steps, reduction, image.getexif().get(ORIENTATION, 1) == 1)


def with_coding(degradation: Degradation, coding: Coding | None) -> Degradation:
    """Adds the tables of a file to an answer that speaks of JPEG, beside its quality, for `project` and `closed_form`.

    They are left out where the answer is coarser: then the file was compressed before, and harder.
    """
    qualities = [value for key, value in degradation.values if key == "quality"]
    if not coding or not coding.aligned or not qualities:
        return degradation
    if np.mean(coding.steps[0]) < COARSER * tables(round(qualities[0]))[0].mean():
        return degradation
    return replace(degradation, values=(*degradation.values, ("steps", coding.steps), ("reduction", coding.reduction)))


@lru_cache(maxsize=256)
def tables(quality: int) -> np.ndarray:
    """Returns the steps of luminance and chrominance at a quality: float32 (2, 8, 8), rows are vertical frequencies."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    steps = Image.open(file).quantization
    return np.float32([steps[0], steps[1]]).reshape(2, 8, 8)


def _within_cells(steps: Tensor, sigma_y: Tensor | float) -> Tensor:
    """Computes the standard deviation within cells of these steps (B, 1, 8, 8), given photographs' power."""
    power = photo_power(8, 8).to(steps.device)
    noise = (steps / 255).square() / 12 + sigma_y**2
    return (power * noise / (power + noise)).mean((2, 3), keepdim=True).sqrt()


def _steps(values: dict[str, Tensor], table: int) -> Tensor:
    """(B, 1, 8, 8): the steps of one table, in grey levels: those of the file where they are known."""
    if "steps" in values:
        return values["steps"][:, table][:, None]
    return torch.from_numpy(np.stack([tables(round(q))[table] for q in values["quality"].tolist()]))[:, None]


def _padded(x: Tensor) -> Tensor:
    """Repeats the last row and column up to whole blocks of 16, as the encoder does."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % 16, 0, -height % 16), mode="replicate")


def _correction(estimate: Tensor, data: Tensor, steps: Tensor) -> Tensor:
    """Returns what moves the block coefficients of an estimate into the cells of those of the data."""
    wanted, named = _blocks(estimate), _blocks(data)
    steps = steps[:, :, None, None]
    named = (named / steps).round() * steps
    inside = torch.maximum(torch.minimum(wanted, named + steps / 2), named - steps / 2)
    matrix = dct_matrix(8, str(estimate.device))
    return (matrix.T @ (inside - wanted) @ matrix).transpose(-3, -2).reshape(estimate.shape)


def _blocks(planes: Tensor) -> Tensor:
    """Transforms (B, C, H, W) into the cosine coefficients of its blocks: (B, C, H / 8, W / 8, 8, 8)."""
    batch, channels, height, width = planes.shape
    matrix = dct_matrix(8, str(planes.device))
    blocks = planes.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(-3, -2)
    return matrix @ blocks @ matrix.T


@lru_cache(maxsize=64)
def _read_back(n: int, device: str = "cpu") -> Tensor:
    """(n / 2, n) float32: the pseudo-inverse of the triangle filter by which decoders enlarge chrominance."""
    small = np.arange(n) // 2
    beside = np.clip(small + np.where(np.arange(n) % 2, 1, -1), 0, n // 2 - 1)
    enlarge = np.zeros((n, n // 2))
    np.add.at(enlarge, (np.arange(n), small), 0.75)
    np.add.at(enlarge, (np.arange(n), beside), 0.25)
    return torch.tensor(np.linalg.pinv(enlarge), dtype=torch.float32, device=device)
