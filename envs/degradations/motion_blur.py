"""Motion blur: convolution with a straight line, as a camera that moves while the shutter is open makes it."""

from __future__ import annotations

import math
from functools import lru_cache

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import QUANTISATION, F, Tensor, dct2, idct2, photo_power, torch

SHORTEST = 3.0
"""Length in px below which a line is no degradation but a nuisance, at 128 px: a Gaussian of .9 px is as wide."""
LONGEST = 40.0
_REACH = math.ceil(LONGEST / 2) + 1
"""Pixels by which the frame is wider than the picture on each side, of every line: a row is what it would be alone."""
_SAMPLES_PER_PIXEL = 16  # of the line, each spread bilinearly over four pixels
_ITERATIONS, _TOLERANCE = 25, 1e-4  # of the conjugate gradients; the tolerance is relative to the first residual


class MotionBlur(Phenomenon):
    r"""Models a camera that moves evenly along a straight line:

    .. math:: y = A x = P (h_{L, \varphi} * E x)

    with h a line of length L px at the angle :math:`\varphi` (degrees, anticlockwise from the right), of sum 1, E the
    half-sample-symmetric extension of the picture and P the cut back to it. The convolution is a product in the
    Fourier transform of the extended frame; the adjoint folds the extension back. Rows may have different lines.
    """

    name, title = "motion_blur", "motion blur"
    place = Place.LENS
    shows_when_reduced = False
    never_with = ("blur",)
    keys = (
        Key("length", "px", 2.0, LONGEST, 0.1, in_pixels=True),
        Key("angle", "degrees", 0.0, 180.0, 1.0, over_picture=True, period=180.0),
    )
    severity = Severity("length", moderate=6.0, severe=11.0, thirds=(8.0, 12.0))
    formula = (
        "convolution with a straight line of `length` px at `angle` degrees, anticlockwise from the horizontal"
    )

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws a length ~ U(4, 16) px for images of 128 px, in proportion for others, mild: U(3, 8); any angle."""
        unit = size / 128
        low, high = (SHORTEST, 8.0) if mild else (4.0, 16.0)
        length = rng.uniform(max(2.0, low * unit), min(LONGEST, high * unit))
        return {"length": length, "angle": rng.uniform(0, 180)}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return Lines(values, *x.shape[-2:]).forward(x)

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Weighs the data with their noise against the prior, as `Blur.project` does (DDNM+):

        .. math:: \hat x = x_0 + V A^\top (A V A^\top + \sigma_y^2 I)^{-1} (y - A x_0)

        with :math:`V = C^\top \mathrm{diag}(1 / (1 / P + 1 / s^2)) C` in the cosine transform C, solved by conjugate
        gradients. With all trust in the data (s large) it is the Wiener filter, exact at the borders.
        """
        given, x0, y = x0.dtype, x0.double(), y.double()
        lines = Lines({key: value.double() for key, value in values.items()}, *y.shape[-2:])
        power = photo_power(*y.shape[-2:]).to(y)
        variance = 1 / (1 / power + noise_level.double().reshape(-1, 1, 1, 1) ** -2)
        noise = torch.as_tensor(sigma_y, dtype=torch.float64, device=y.device).square()
        inverse = 1 / (lines.cosine_power() * variance + noise)

        def covariance(r: Tensor) -> Tensor:
            return lines.forward(idct2(variance * dct2(lines.adjoint(r)))) + noise * r

        residual = y - lines.forward(x0)
        solution = conjugate_gradients(covariance, residual, lambda r: idct2(inverse * dct2(r)))
        return (x0 + idct2(variance * dct2(lines.adjoint(solution)))).to(given)

    rounds_beyond = 0  # a line empties frequencies: what it makes of an estimate strays further each time

    def reach(self, degradation) -> int:
        return math.ceil(2 * degradation["length"])

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        """Applies the Wiener filter against the mean spectrum of photographs, around the mean colour."""
        level = torch.full((len(y),), 1e3, device=y.device)
        return self.project(y.mean((2, 3), keepdim=True).expand_as(y), y, level, values, sigma_y)

    def classical(self):
        return {"Wiener filter": self.estimate}


PHENOMENON = MotionBlur()


class Lines:
    """Convolves pictures of one size with lines, one a row, and applies the adjoint.

    values: "length" in px and "angle" in degrees, (B,) each.
    """

    def __init__(self, values: dict[str, Tensor], height: int, width: int):
        self._reach = _REACH
        self._index = [_reflected(n, self._reach).to(values["length"].device) for n in (height, width)]
        self._frame = (height + 2 * self._reach, width + 2 * self._reach)
        rows = zip(values["length"].tolist(), values["angle"].tolist(), strict=True)
        self._kernels = torch.stack([line(length, angle, self._reach) for length, angle in rows])[:, None]
        self._kernels = self._kernels.to(values["length"])
        self._size = (height, width)
        self._gain = self._transform(self._kernels, self._frame)

    def forward(self, x: Tensor) -> Tensor:
        """Computes A x, (B, 3, H, W)."""
        rows, columns = self._index
        wide = x[..., rows[:, None], columns]
        blurred = torch.fft.irfft2(self._gain * torch.fft.rfft2(wide), s=self._frame)
        reach, (height, width) = self._reach, self._size
        return blurred[..., reach : reach + height, reach : reach + width]

    def adjoint(self, y: Tensor) -> Tensor:
        """Computes the transpose of `forward`, to rounding."""
        wide = F.pad(y, (self._reach,) * 4)
        blurred = torch.fft.irfft2(self._gain.conj() * torch.fft.rfft2(wide), s=self._frame)
        rows, columns = self._index
        height, width = self._size
        folded = blurred.new_zeros(*y.shape[:2], height, self._frame[1]).index_add_(2, rows, blurred)
        return blurred.new_zeros(y.shape).index_add_(3, columns, folded)

    def cosine_power(self) -> Tensor:
        """Approximates A A^T by its diagonal in the cosine transform: (B, 1, H, W).

        A cosine of two frequencies is a wave in each of two directions: the mean of the line's power along both.
        """
        height, width = self._size
        power = self._transform(self._kernels, (2 * height, 2 * width)).abs().square()
        one = power[..., :height, :width]
        other = power.flip(-2).roll(1, -2)[..., :height, :width]
        return (one + other) / 2

    def _transform(self, kernels: Tensor, frame: tuple[int, int]) -> Tensor:
        """Returns the Fourier transform of the kernels, centred at pixel 0 of a frame."""
        height, width = frame
        side = 2 * self._reach + 1
        offsets = torch.arange(side, device=kernels.device) - self._reach
        rows, columns = (offsets % height)[:, None] * width, offsets % width
        canvas = kernels.new_zeros(len(kernels), 1, height * width)
        canvas.index_add_(2, (rows + columns).reshape(-1), kernels.reshape(len(kernels), 1, -1))
        return torch.fft.rfft2(canvas.reshape(len(kernels), 1, height, width))


@lru_cache(maxsize=512)
def line(length: float, angle: float, reach: int) -> Tensor:
    """Draws a line through the middle of a square of 2 reach + 1 px, of sum 1: float32.

    Args:
        length: in px, at most 2 reach - 2.
        angle: in degrees, anticlockwise from the horizontal.
    """
    count = max(2, math.ceil(length * _SAMPLES_PER_PIXEL))
    along = (torch.arange(count, dtype=torch.float64) + 0.5) / count * length - length / 2
    x = along * math.cos(math.radians(angle)) + reach
    y = -along * math.sin(math.radians(angle)) + reach
    side = 2 * reach + 1
    kernel = torch.zeros(side * side, dtype=torch.float64)
    for row, row_weight in ((y.floor(), 1 - y % 1), (y.floor() + 1, y % 1)):
        for column, column_weight in ((x.floor(), 1 - x % 1), (x.floor() + 1, x % 1)):
            kernel.index_add_(0, (row * side + column).long(), row_weight * column_weight)
    return (kernel / count).reshape(side, side).float()


def conjugate_gradients(operator, b: Tensor, precondition) -> Tensor:
    """Solves operator(x) = b for symmetric positive operators, one system a row: (B, 3, H, W)."""

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum((1, 2, 3), keepdim=True)

    x, residual = torch.zeros_like(b), b
    step = precondition(residual)
    size = dot(residual, step)
    enough = _TOLERANCE**2 * size
    for _ in range(_ITERATIONS):
        if bool((size <= enough).all()):
            break
        image = operator(step)
        rate = torch.where(size > enough, size / dot(step, image).clamp_min(1e-30), 0)
        x, residual = x + rate * step, residual - rate * image
        better = precondition(residual)
        before, size = size, dot(residual, better)
        step = better + size / before.clamp_min(1e-30) * step
    return x


@lru_cache(maxsize=64)
def _reflected(n: int, reach: int) -> Tensor:
    """(n + 2 reach,): the pixel of n that each pixel of the half-sample-symmetric extension repeats."""
    index = torch.arange(-reach, n + reach) % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)
