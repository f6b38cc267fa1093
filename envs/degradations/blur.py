"""Blur: convolution with a Gaussian of standard deviation sigma px, half-sample-symmetric borders."""

from __future__ import annotations

import math

import cv2
import numpy as np

from envs.degradations.base import Key, Phenomenon, Place, Severity
from envs.degradations.common import (
    MEDIAN_OF_NORMAL,
    QUANTISATION,
    Tensor,
    dct2,
    detail_noise,
    idct2,
    photo_power,
    torch,
    truncated_normal,
)

_TRUNCATE = 4.0  # the kernel reaches to 4 sigma, as SciPy's
EMPTY, FEW_FREQUENCIES = 0.002, 100
"""A frequency of less gain holds noise alone; so many of them are needed to read its deviation."""
FITTED_SIZE, LOUD = 256, 20
"""Pixels a side up to which pictures have the mean spectrum of photographs; a frequency this much above the noise tells
how far a larger one is from it."""
UNSHARP_SIGMA, UNSHARP_AMOUNT = 2 / 128, 1.0
"""The blur that unsharp masking assumes, in picture widths, and how much of what it took is put back."""


class Blur(Phenomenon):
    r"""Models an unsharp lens:

    .. math::
        y = h_\sigma * x = C^\top \Lambda_\sigma C x,
        \qquad \lambda_k = \sum_j h_j \cos(\pi k j / n), \quad h_j \propto e^{-j^2 / 2 \sigma^2}

    Such a filter is diagonal in the 2-D DCT-II, C, so operator, Wiener filter and DDNM+ weights are elementwise, and
    a batch of different sigmas costs no more than one. Equal to `scipy.ndimage.gaussian_filter(mode="reflect")`.
    """

    name = title = "blur"
    place = Place.LENS
    shows_when_reduced = False
    keys = (Key("sigma", "px", 0.30, 12.0, 0.01, in_pixels=True),)
    severity = Severity("sigma", moderate=1.8, severe=3.0, thirds=(2.14, 2.96))
    formula = "convolution with a Gaussian of standard deviation sigma"

    def sample(self, rng, size, kind, mild=False) -> dict:
        """Draws sigma ~ N(2.5, 1) on [.8, 5] px for images of 128 px, in proportion for others; mild: N(1.5, .5) on
        [.8, 3]."""
        unit = size / 128
        if mild:
            return {"sigma": truncated_normal(rng, 1.5 * unit, 0.5 * unit, max(0.4, 0.8 * unit), min(12.0, 3 * unit))}
        return {"sigma": truncated_normal(rng, 2.5 * unit, unit, max(0.4, 0.8 * unit), min(12.0, 5 * unit))}

    def degrade(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return idct2(spectrum(values["sigma"], *x.shape[-2:]) * dct2(x))

    def project(self, x0, y, noise_level, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Weighs, per frequency, the data with their noise against the prior (DDNM+):

        .. math::
            \hat x = x_0 + \frac{\lambda v}{\lambda^2 v + \sigma_y^2} (y - \lambda x_0), \qquad
            v = \frac{1}{1 / P + 1 / s^2}

        A prior is never wrong by more than photographs vary: with power P its error has the variance v. Without that,
        noise would enter wherever photographs are quiet; with all trust in the data (s large) the step becomes
        :math:`x_0 + W (y - A x_0)`, W the Wiener filter in place of the pseudo-inverse.
        """
        gain = spectrum(values["sigma"], *y.shape[-2:])
        estimate, data = dct2(x0), dct2(y)
        power = _power(data, gain, sigma_y)
        variance = 1 / (1 / power + noise_level.reshape(-1, 1, 1, 1) ** -2)
        weights = gain * variance / (gain.square() * variance + sigma_y**2)
        return idct2(estimate + weights * (data - gain * estimate))

    def reach(self, degradation) -> int:
        return math.ceil(_TRUNCATE * degradation["sigma"])

    def estimate_noise(self, y, values) -> Tensor:
        r"""Reads the median of |DCT| where the blur leaves nothing but noise, :math:`\lambda < .002`; from flat parts
        where there are few such frequencies."""
        gain = spectrum(values["sigma"], *y.shape[-2:])
        deviations = detail_noise(y)
        for i, (coefficients, empty) in enumerate(zip(dct2(y), gain[:, 0] < EMPTY, strict=True)):
            if int(empty.sum()) >= FEW_FREQUENCIES:
                deviations[i] = coefficients[:, empty].abs().median() / MEDIAN_OF_NORMAL
        return deviations.clamp_min(QUANTISATION)

    def closed_form(self, y, values, sigma_y=QUANTISATION) -> Tensor:
        r"""Applies the Wiener filter against the mean spectrum of photographs:
        :math:`\lambda P / (\lambda^2 P + \sigma_y^2)`."""
        gain, data = spectrum(values["sigma"], *y.shape[-2:]), dct2(y)
        power = _power(data, gain, sigma_y)
        return idct2(gain * power / (gain.square() * power + sigma_y**2) * data)

    def classical(self):
        return {"Wiener filter": self.estimate}

    def blind(self, degraded: np.ndarray) -> np.ndarray:
        """Sharpens by unsharp masking: y + amount (y - Gaussian(y))."""
        y = degraded.astype(np.float32) / 255
        smooth = cv2.GaussianBlur(y, (0, 0), UNSHARP_SIGMA * y.shape[1], borderType=cv2.BORDER_REFLECT)
        return (y + UNSHARP_AMOUNT * (y - smooth)).clip(0, 1)


PHENOMENON = Blur()


def _power(data: Tensor, gain: Tensor, sigma_y: Tensor | float) -> Tensor:
    r"""Returns the power that the DCT of a picture is taken to have, (B or 1, 1, H, W).

    That of the mean photograph was fitted to small crops; a piece of a large photograph may have a hundredth of it at
    its own scale, or more. So in pictures of more than `FITTED_SIZE` a side its height is read off the frequencies that
    the blur leaves: the mean of :math:`(|Y|^2 - \sigma_y^2) / (\lambda^2 P)` where :math:`\lambda^2 P` is
    `LOUD` times the noise.
    """
    power = photo_power(*data.shape[-2:]).to(data.device)
    if min(data.shape[-2:]) <= FITTED_SIZE:
        return power
    expected, noise = gain.square() * power, torch.as_tensor(sigma_y, device=data.device).square()
    loud = (expected > LOUD * noise).float()
    loud[..., 0, 0] = 0
    height = ((data.square() - noise) / expected * loud).sum((1, 2, 3), keepdim=True)
    return power * (height / (3 * loud.sum((1, 2, 3), keepdim=True)).clamp_min(1)).clamp(1e-4, 1e2)


def spectrum(sigma: Tensor, height: int, width: int) -> Tensor:
    """Returns the eigenvalues of the blur in the DCT-II: (B,) -> (B, 1, height, width)."""
    rows, columns = (eigenvalues(sigma, n) for n in (height, width))
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def eigenvalues(sigma: Tensor, n: int) -> Tensor:
    """Returns the eigenvalues in one dimension of n pixels, (B,) -> (B, n), in float64 until the last step."""
    sigma = sigma.double()
    reach = int(_TRUNCATE * float(sigma.max()) + 0.5)
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64, device=sigma.device)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]).square())
    kernel = kernel * (taps.abs() <= (_TRUNCATE * sigma[:, None] + 0.5).floor())
    kernel = kernel / kernel.sum(1, keepdim=True)
    frequencies = torch.arange(n, dtype=torch.float64, device=sigma.device)
    return (kernel @ torch.cos(math.pi / n * taps[:, None] * frequencies)).float()
